"""What the lengths and sizes of a batch decide about ViLT's step, worked out where the batch is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vilt.modules.batches import image_of
from vilt.modules.vision_transformer import grid_sizes
from vlp.nn.padding import TokenPlan
from vlp.sacred_dialect.step_plan import text_plan

Batch = dict[str, Any]
IMAGES = ("image", "false_image_0", "image_0", "image_1")


def step_plan(batch: Batch, patch_size: int, max_image_len: int) -> Batch:
    """``plan``: that of the sentences, and of the joint sequences.

    ``patches``: of the largest image, before ``max_image_len`` cuts it; ``joint``: the tokens of text and images, by
    image key, of ITM's mixture (``mixed``) and of retrieval's candidates (``candidates``).
    """
    plan: Batch = text_plan(batch)["plan"]
    valid = {key: valid_patches(batch, key, patch_size) for key in IMAGES if key in batch}
    most = int(torch.cat([*valid.values()]).max())
    text, joint = plan["text"].tokens.mask, {}
    for key, counts in valid.items():
        if key != "false_image_0":
            joint[key] = joint_plan(text, counts, most, max_image_len)
    if "itm_labels" in batch:
        mixed = valid["image"].index_copy(0, batch["itm_negatives"], valid["false_image_0"])
        joint["mixed"] = joint_plan(text, mixed, most, max_image_len)
    if "candidates" in plan and "image" in valid:
        captions = plan["candidates"].tokens.mask
        each = valid["image"].repeat_interleave(len(captions) // len(text))
        joint["candidates"] = joint_plan(captions, each, most, max_image_len)
    return {"plan": {**plan, "patches": most, "joint": joint}}


def valid_patches(batch: Batch, key: str, patch_size: int) -> Tensor:
    """How many patches each image of ``key`` has, (B,)."""
    images, sizes = image_of(batch, key)
    grid = (images.shape[2] // patch_size, images.shape[3] // patch_size)
    return grid_sizes(images, sizes, grid, (patch_size, patch_size)).prod(dim=1)


def joint_plan(text_mask: Tensor, valid: Tensor, most: int, max_image_len: int) -> TokenPlan:
    """Sentences with mask (B, n), each before its image's class token and as many of its patches (B,) as are kept."""
    longest = kept_patches(most, max_image_len)
    image = torch.arange(1 + longest, device=valid.device) < 1 + valid.clamp(max=longest)[:, None]
    return TokenPlan.of(torch.cat([text_mask, image], dim=1))


def kept_patches(most: int, max_image_len: int) -> int:
    """Of an image with ``most`` patches; ``max_image_len`` < 0 keeps all."""
    return most if max_image_len < 0 else min(most, max_image_len)
