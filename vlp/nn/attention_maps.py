"""Attention probabilities of one layer, with a graph, for Grad-CAM; other passes keep PyTorch's fused kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor

from vlp.nn.attention import AttentionProjections


@contextmanager
def kept_map(attention: AttentionProjections) -> Iterator[None]:
    """Within the block ``attention.attention_map`` (B, h, n, m) is that of the last pass."""
    attention.keep_map = True
    try:
        with _uncompiled():
            yield
    finally:
        attention.keep_map, attention.attention_map = False, None


@contextmanager
def kept_image_map(block: Block) -> Iterator[list[Tensor]]:
    """Within the block every pass of a timm ViT's ``block`` appends its self-attention (B, h, N, N)."""
    maps: list[Tensor] = []
    attention: Any = block.attn
    fused, attention.fused_attn = attention.fused_attn, False
    # The explicit attention hands its probabilities to this dropout, and the fused one does not use it.
    handle = attention.attn_drop.register_forward_pre_hook(lambda _, args: maps.append(args[0]))
    try:
        with _uncompiled():
            yield maps
    finally:
        handle.remove()
        attention.fused_attn = fused


@contextmanager
def _uncompiled() -> Iterator[None]:
    """A compiled layer would not see that its attention is asked for."""
    with torch.compiler.set_stance("force_eager"):
        yield
