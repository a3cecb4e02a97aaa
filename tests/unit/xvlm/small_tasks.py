"""Small X-VLMs of retrieval, grounding and NLVR2, and batches for them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch

from tests.unit.small_parts import Batch, stirred
from tests.unit.xvlm.small import IMAGE, config_of, pretraining_batch, region_batch

LOSSES = {
    "retrieval": ["itc_loss", "itm_loss"],
    "nlvr": ["nlvr_loss"],
    "nlvr_pretrain": ["ta_loss"],
    "bbox": ["bbox_loss", "giou_loss"],
    "bbox_pretrain": ["bbox_loss", "giou_loss"],
}
KEYS: dict[str, Any] = {"k_test": 2, "max_tokens": 40, "block_num": 2, "vlue_test": False}


def task_model(task: str, seed: int = 0, **changes: Any) -> Any:
    """A small model of ``xvlm.models.model_<task>`` with stirred weights."""
    torch.manual_seed(seed)
    module = importlib.import_module(f"xvlm.models.model_{task}")
    return stirred(module.XVLM(config_of(**{**KEYS, **changes})))


def task_batch(task: str, lengths: Sequence[int] = (6, 3, 9), seed: int = 0) -> Batch:
    """A training batch; of retrieval, the first image and the last are the same one."""
    if task == "bbox_pretrain":
        return region_batch(seed=seed)
    whole = pretraining_batch(lengths, seed=seed)
    batch = {key: whole[key] for key in ("image", "text", "text_ids", "text_masks")}
    size, rng = len(lengths), torch.Generator().manual_seed(seed + 7)
    names = {"dataset": ["x"] * size, "index": list(range(size))}
    if task == "nlvr":
        right = torch.randn(size, 3, IMAGE, IMAGE, generator=rng)
        return {**batch, **names, "image": torch.cat([batch["image"], right]), "labels": torch.arange(size) % 2}
    if task == "retrieval":
        return {**batch, "image_id": torch.tensor([5, *range(6, 4 + size), 5])}
    if task == "bbox":
        boxes = torch.rand(size, 4, generator=rng) / 4 + 0.25
        return {**batch, **names, "target_bbox": boxes, "ref_id": list(range(size))}
    return batch
