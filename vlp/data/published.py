"""Published sizes of data sets, and how a run's folder says how much of them it reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

REPORT = "data.json"  # in a run's folder

# Arrow tables, where {i} stands for all shards: images of the caption sets, texts of the others.
TABLES = {
    "coco_caption_karpathy_train": 82_783,
    "coco_caption_karpathy_restval": 30_504,
    "coco_caption_karpathy_val": 5_000,
    "coco_caption_karpathy_test": 5_000,
    "f30k_caption_karpathy_train": 29_000,
    "f30k_caption_karpathy_val": 1_014,
    "f30k_caption_karpathy_test": 1_000,
    "vg": 108_077,
    "conceptual_caption_train_{i}": 3_318_333,
    "sbu_{i}": 1_000_000,
    "cc12m_{i}": 12_423_374,
    "nlvr2_train": 86_373,
    "nlvr2_dev": 6_982,
    "nlvr2_test1": 6_967,
    "snli_train": 529_527,
    "snli_dev": 17_858,
    "snli_test": 17_901,
    "vqav2_test": 447_793,
}

# Rows of JSON lists, by the file's name without ending.
LISTS = {
    "coco": 566_747,
    "coco_train": 566_747,
    "coco_val": 5_000,
    "coco_test": 5_000,
    "coco_karpathy_train": 566_747,
    "coco_karpathy_val": 5_000,
    "coco_karpathy_test": 5_000,
    "flickr30k_train": 145_000,
    "flickr30k_val": 1_014,
    "flickr30k_test": 1_000,
    "vg": 108_077,
    "sbu": 1_000_000,
    "cc3m_train": 3_318_333,
    "cc3m_val": 15_840,
    "cc12m": 12_423_374,
    "vqa_train": 443_757,
    "vqa_val": 214_354,
    "vqa_test": 447_793,
    "nlvr_train": 86_373,
    "nlvr_dev": 6_982,
    "nlvr_test": 6_967,
    "ve_train": 529_527,
    "ve_dev": 17_858,
    "ve_test": 17_901,
    "refcoco+_train": 120_191,
    "refcoco+_val": 10_758,
    "refcoco+_test": 10_615,
}

# Rows of captions in folders of JSON lines, by the folder's name; what the published regions hold is not known.
LINES = {
    "coco": 566_747,
    "vg": 108_077,
    "sbu": 1_000_000,
    "cc3m": 3_318_333 + 15_840,
    "cc12m": 12_423_374,
}


def coverage(sizes: dict[str, int], names: Iterable[str], found: int | None) -> dict[str, Any]:
    """``published``, the sum of the ``sizes`` of ``names``, and ``coverage``, the share ``found`` of it.

    Both are None where a size is not known, ``coverage`` also where it is not known what was found.
    """
    known = [sizes.get(name) for name in names]
    published = None if not known or None in known else sum(size for size in known if size is not None)
    share = None if published is None or found is None else found / published
    return {"published": published, "coverage": share}
