"""What METER asks of an image encoder."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


class VisionTower(nn.Module):
    """images (B, 3, S, S) -> tokens (B, N, width).

    ``image_pool`` says what is pooled after fusion: "first" = the class token, "mean" = over all tokens.
    """

    image_pool: Literal["first", "mean"]
    width: int

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) -> (B, N, width)."""
        raise NotImplementedError

    def official_key(self, key: str) -> str:
        """Own parameter name -> the name in METER's checkpoints (both relative to this tower)."""
        raise NotImplementedError

    def set_grad_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""
        raise NotImplementedError
