"""What the replays of ViLT's tasks share: building a model, its batches, forcing draws, one plain pass.

Source: docs/official/vilt.md §11.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from tests.parity.replays import TRAINING_PATH, Fixture, Given
from tests.parity.replays.filling import filled, texts
from vilt.config import ex
from vilt.modules import vision_transformer
from vilt.modules.checkpoints import load_checkpoint
from vilt.modules.sizes import VitSize
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.vision_transformer import VisionTransformer
from vlp.sacred_dialect.config import base_config

Batch = dict[str, Any]

# Building ------------------------------------------------------------------------------------------------


def model_of(arch: dict[str, Any], config: dict[str, Any]) -> ViLTransformerSS:
    """The model of ``arch``; ``config`` holds the official keys that the fixture sets."""
    full: dict[str, Any] = base_config(ex)
    known = {key: value for key, value in config.items() if value is not None and key != "loss_names"}
    width, dropout = arch["hidden_size"], arch["dropout"]
    sizes = {
        "hidden_size": width,
        "num_heads": arch["num_heads"],
        "num_layers": arch["num_layers"],
        "mlp_ratio": arch["mlp_size"] / width,
        "drop_rate": dropout["text_embeddings"],
        "vocab_size": arch["vocab_size"],
        "max_text_len": arch["text_positions"],
        "vqav2_label_size": arch["num_answers"] or full["vqav2_label_size"],
    }
    rows, columns = arch["position_grid"]
    size = VitSize(width, arch["num_layers"], arch["num_heads"], arch["patch_size"], (rows, columns))
    transformer = VisionTransformer(size, sizes["mlp_ratio"], dropout["position"], mask_token=arch["mask_token"])
    loss_names = {**dict.fromkeys(full["loss_names"], 0), **config["loss_names"]}
    return ViLTransformerSS({**full, **known, **sizes, "loss_names": loss_names}, transformer).eval()


def filled_model(fixture: Fixture) -> ViLTransformerSS:
    """Built from ``arch`` and filled by golden.py's rule, or loaded through the launcher's own loading path."""
    return filled(fixture, model_of, load_checkpoint)


# What goes in --------------------------------------------------------------------------------------------


def batch_of(fixture: Fixture, mode: str, *needed: str) -> Given:
    """The inputs and choices that the collation gives, under its names; ``needed`` are further pieces of a whole batch.

    The plain computation finds padding by the official rule, the training path by the sizes beside the images.
    """
    given = fixture.given
    images = [name for name in given if name in ("image", "image_0", "image_1") or name.startswith("false_image_0")]
    batch: Batch = {name: [torch.from_numpy(given[name])] for name in images}
    if mode == TRAINING_PATH:
        sizes = {name: given[f"{name.replace('false_image_0', 'false_image')}_sizes"] for name in images}
        batch["sizes"] = {name: torch.from_numpy(value).long() for name, value in sizes.items()}
    return texts(given, *needed).also(**batch)


def kept_patches(fixture: Fixture, batch: Batch, image: str = "image", choice: str = "patch_index") -> Tensor:
    """The patches that a choice keeps, (B, H·W) bool in raster order; padded slots may be among them."""
    places = torch.from_numpy(fixture.choices[choice]).long()
    height, width = (side // fixture.arch["patch_size"] for side in batch[image][0].shape[2:])
    kept = torch.zeros(len(places), height * width, dtype=torch.bool)
    return kept.scatter(1, places[..., 0] * width + places[..., 1], True)


@contextmanager
def forced_patches(kept: Tensor) -> Iterator[None]:
    """The images embedded while the block runs keep these patches (B, H·W)."""
    with patch.object(vision_transformer, "choose_patches", lambda valid, max_image_len: valid & kept):
        yield


# One pass -----------------------------------------------------------------------------------------------


@contextmanager
def captured_blocks(model: ViLTransformerSS, states: dict[str, Tensor]) -> Iterator[None]:
    """Collect what enters and leaves every block while the block runs."""
    handles = []
    for i, block in enumerate(model.transformer.blocks):
        handles.append(
            block.register_forward_hook(
                lambda _, args, output, i=i: states.update({f"block{i}_in": args[0], f"block{i}_out": output})
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def as_answers(labels: list[list[int]], scores: list[list[float]], count: int) -> Tensor:
    """VQAv2's soft targets (B, count)."""
    targets = torch.zeros(len(labels), count)
    for row, (answers, values) in enumerate(zip(labels, scores, strict=True)):
        targets[row, answers] = torch.tensor(values)
    return targets
