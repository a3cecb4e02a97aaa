"""The columns of the paper's tables: the setting that stands over each, and its own name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

SETTINGS = {
    "coco_ft": "COCO, fine-tuned",
    "coco_zs": "COCO, zero-shot",
    "f30k_ft": "Flickr30k, fine-tuned",
    "f30k_zs": "Flickr30k, zero-shot",
}
ACCURACIES = {
    "vqa_test_dev": ("VQAv2", "test-dev"),
    "vqa_test_std": ("VQAv2", "test-std"),
    "nlvr2_dev": ("NLVR2", "dev"),
    "nlvr2_test": ("NLVR2", "test-P"),
    "snli_ve_dev": ("SNLI-VE", "dev"),
    "snli_ve_test": ("SNLI-VE", "test"),
}


@dataclass(frozen=True)
class Column:
    """A column; ``key`` is that of ``tables.json``."""

    key: str
    setting: str
    name: str


def column(key: str) -> Column:
    """Of a key of ``tables.json``.

    Raises:
        ValueError: it is none.
    """
    if key in ACCURACIES:
        return Column(key, *ACCURACIES[key])
    found = re.fullmatch(r"((?:coco|f30k)_(?:ft|zs))_(tr|ir)_r(\d+)", key)
    if found is None:
        raise ValueError(f"tables.json: no column is called {key!r}")
    setting, way, rank = found.groups()
    return Column(key, SETTINGS[setting], f"{way.upper()} R@{rank}")


def settings(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """The settings, in order, and how many columns each stands over."""
    return [(setting, len([*each])) for setting, each in groupby(columns, key=lambda one: one.setting)]
