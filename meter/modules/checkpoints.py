"""METER's checkpoints: what decides their tensors, and position tables of another image size.

Source: docs/official/meter.md §8.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from vlp.checkpoint.layout import CheckpointLayout
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.weights import WeightsError
from vlp.nn.positions import interpolate_clip_positions, interpolate_swin_bias, swin_image_size


def resized_positions(
    path: str | Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """``state`` with CLIP position tables and Swin bias tables interpolated to the sizes of ``expected``.

    Raises:
        WeightsError: a table of ``path`` is no grid.
    """
    try:
        return {name: _resized(name, t, expected[name]) if name in expected else t for name, t in state.items()}
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


def _resized(name: str, value: Tensor, expected: Tensor) -> Tensor:
    if value.shape == expected.shape:
        return value
    if name.endswith("visual.positional_embedding"):
        grid = round((expected.shape[0] - 1) ** 0.5)
        return interpolate_clip_positions(value, patch_size=1, image_size=grid)
    if name.endswith("relative_position_bias_table"):
        return interpolate_swin_bias(value, swin_image_size(value), swin_image_size(expected))
    return value


LAYOUT = CheckpointLayout(
    title="METER",
    recognised_by=("cross_modal_text_transform.",),
    architecture=(
        *("vit", "patch_size", "tokenizer", "vocab_size", "hidden_size", "num_heads", "num_top_layer", "mlp_ratio"),
        *("input_image_embed_size", "input_text_embed_size"),
    ),
    named_in_hints=("vit", "image_size", "tokenizer", "hidden_size", "num_top_layer"),
    trunk=(
        *("vit_model.visual.", "vit_model.patch_embed.", "vit_model.layers.", "vit_model.norm."),
        *("text_transformer.", "cross_modal_", "token_type_embeddings."),
    ),
    resized=resized_positions,
)
load_checkpoint = partial(load_into, layout=LAYOUT)
