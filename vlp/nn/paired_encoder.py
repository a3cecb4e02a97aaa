"""NLVR2's text and fusion encoder, whose layers see two images by turns.

Source: docs/official/albef.md §4, docs/official/xvlm.md §7.3.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlp.nn.fusion_bert import BertSizes, FusionEncoder


def paired_encoder(sizes: BertSizes) -> FusionEncoder:
    """An encoder with two fusion layers for each one of ``sizes``: the first sees the left image, the second the right.

    Both have the same keys and values of an image; of 12 layers, 6 of them fusing, come the official 18.
    """
    first = sizes["fusion_layer"]
    encoder = FusionEncoder({**sizes, "num_hidden_layers": 2 * sizes["num_hidden_layers"] - first})
    for i in range(first, len(encoder.layers), 2):
        left, right = (_cross_attention(encoder, j) for j in (i, i + 1))
        left.key, left.value = right.key, right.value
    return encoder


def left_and_right(images: Tensor) -> list[Tensor]:
    """Encoded images (2B, N, d), all left ones first -> what the fusion layers see by turns."""
    return list(images.chunk(2))


def _cross_attention(encoder: FusionEncoder, layer: int) -> Any:
    return encoder.layers[layer].get_submodule("crossattention.self")
