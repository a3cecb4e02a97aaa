"""Small X-VLMs of the real classes, and batches for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tests.unit.small_parts import Batch, masked_pairs, stirred

PAD, CLS, SEP, MASK, VOCAB = 0, 101, 102, 103, 200
IMAGE, PATCH, SIDE = 96, 32, 3  # pixels, pixels, patches
VISION: dict[str, Any] = {
    **{"ckpt": "", "vision_width": 64, "image_res": IMAGE, "window_size": 3, "embed_dim": 8},
    **{"depths": [1, 2, 2, 2], "num_heads": [1, 2, 2, 4]},
}
TEXT: dict[str, Any] = {
    **{"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32},
    **{"fusion_layer": 2, "encoder_width": 64, "vocab_size": VOCAB, "max_position_embeddings": 40},
    **{"type_vocab_size": 2, "pad_token_id": PAD, "layer_norm_eps": 1e-12, "initializer_range": 0.02},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu"},
}
CONFIG: dict[str, Any] = {
    **{"use_clip_vit": False, "use_swin": True, "use_roberta": False, "vision_config": VISION, "text_config": TEXT},
    **{"text_encoder": "bert-base-uncased", "image_res": IMAGE, "patch_size": PATCH, "embed_dim": 8, "temp": 0.07},
    **{"train_file_regions": ["regions.jsonl"], "regions": {"iter_perc": 0.5}, "calc_image_bbox_loss": False},
    **{"optimizer": {"opt": "adamW", "lr": 1e-4, "weight_decay": 0.01, "lr_mult": 2}},
    **{"pack_text": True, "gradient_checkpointing": False, "compile": False},
    **{"init": "random", "checkpoint": "", "resume_from": None},
}


def config_of(dropout: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A config of the small model; ``changes`` may have ``text_config`` and ``vision_config`` in part."""
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    parts = {
        "text_config": {**TEXT, **drops, **changes.get("text_config", {})},
        "vision_config": {**VISION, **changes.get("vision_config", {})},
    }
    return {**CONFIG, **changes, **parts}


def pretraining(seed: int = 0, **changes: Any) -> Any:
    """A small pre-training model with stirred weights."""
    from xvlm.models.model_pretrain import XVLM

    torch.manual_seed(seed)
    return stirred(XVLM(config_of(**changes)))


def pretraining_batch(lengths: Sequence[int] = (6, 3, 9), masked: int = 2, seed: int = 0) -> Batch:
    """:func:`masked_pairs` of the small model's size."""
    return masked_pairs(IMAGE, lengths, masked, seed)


def region_batch(
    lengths: Sequence[int] = (6, 3, 9, 4, 5), image_of: Sequence[int] = (1, 0, 1, 1, 0), seed: int = 0
) -> Batch:
    """Two images and sentences about boxes of them, the first of which is the whole image."""
    batch = pretraining_batch(lengths, seed=seed)
    rng = torch.Generator().manual_seed(seed + 1)
    corners = torch.rand(len(lengths), 2, 2, generator=rng).sort(dim=1).values  # (B, first and last, x and y)
    corners[0] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    boxes = torch.cat([corners.mean(dim=1), corners[:, 1] - corners[:, 0]], dim=1)
    is_image = torch.zeros(len(lengths), dtype=torch.long)
    is_image[0] = 1
    return {
        **batch,
        "image": batch["image"][: max(image_of) + 1],
        "idx_to_group_img": torch.tensor(image_of),
        "image_atts": torch.stack([seen_patches(each) for each in corners]),
        "target_bbox": boxes,
        "is_image": is_image,
    }


def seen_patches(corners: Tensor) -> Tensor:
    """The patches that a box touches, and token 0: its corners (2, 2), relative -> (1 + patches,) int64."""
    first, last = (corners[0] * SIDE).floor().long(), (corners[1] * SIDE).ceil().long()
    inside = torch.zeros(SIDE, SIDE, dtype=torch.long)
    inside[first[1] : last[1], first[0] : last[0]] = 1
    return torch.cat([torch.ones(1, dtype=torch.long), inside.flatten()])
