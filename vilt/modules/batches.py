"""Images of a batch with their sizes inside the padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def image_of(batch: dict[str, Any], key: str) -> tuple[Tensor, Tensor | None]:
    """The first view (B, 3, H, W) of an image key, and the sizes (B, 2) inside its padding if the batch has them."""
    return batch[key][0], batch.get("sizes", {}).get(key)


def together(*parts: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Several images and sizes as :func:`image_of` gives them in one, so that they are embedded at once."""
    sizes = [size for _, size in parts if size is not None]
    return torch.cat([images for images, _ in parts]), torch.cat(sizes) if len(sizes) == len(parts) else None
