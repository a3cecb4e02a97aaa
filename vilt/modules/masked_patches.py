"""Masked patch prediction: the mean colour of masked patches, in 256 bins per channel.

Source: docs/official/vilt.md §5, MPP.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vilt.modules.vision_transformer import ImageTokens
from vlp.data.masking import IGNORED
from vlp.nn.heads import PredictionTransform

BINS = 256
LABELLED = 0.15  # of the patches
REPLACED = 0.8  # of the labelled ones by the mask token; the rest stay as they are


class MPPHead(nn.Module):
    """Colour logits of patches, channel by channel."""

    def __init__(self, width: int, layer_norm_eps: float = 1e-12) -> None:
        super().__init__()
        self.transform = PredictionTransform(width, layer_norm_eps)
        self.decoder = nn.Linear(width, 3 * BINS)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) -> (…, 3, 256)."""
        return self.decoder(self.transform(x)).unflatten(-1, (3, BINS))


def mask_patches(image: ImageTokens, images: Tensor, mask_token: Tensor) -> tuple[ImageTokens, Tensor]:
    """Draw patches to predict, and hide most of them.

    Args:
        image: embedded images.
        images: (B, 3, H, W) the pixels, in [-1, 1].
        mask_token: (1, 1, d) takes the place of hidden features; positions stay.

    Returns:
        the tokens, and labels (B, 1 + P, 3): colour bins, -100 where no loss is taken.
    """
    place = image.patch_index[..., 0] * image.grid[1] + image.patch_index[..., 1]  # (B, P) in the grid
    labelled, replaced = (draw.gather(1, place) for draw in draw_patches(len(images), image.grid, images.device))
    labelled = labelled & image.mask[:, 1:]
    bins = colour_bins(images, image.grid).gather(1, place[..., None].expand(-1, -1, 3))
    labels = F.pad(bins.masked_fill(~labelled[..., None], IGNORED), (0, 0, 1, 0), value=IGNORED)
    hidden = F.pad(labelled & replaced, (1, 0))[..., None]
    return image._replace(features=torch.where(hidden, mask_token.to(image.features.dtype), image.features)), labels


def draw_patches(size: int, grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Which patches of the grids (size, H·W) are labelled, and which hidden if labelled: independent draws."""
    draws = torch.rand(2, size, grid[0] * grid[1], device=device)
    return draws[0] < LABELLED, draws[1] < REPLACED


def colour_bins(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """images (B, 3, H, W) in [-1, 1] -> mean colour of each patch (B, H·W, 3), 0 to 255."""
    size = (images.shape[2] // grid[0], images.shape[3] // grid[1])
    means = F.avg_pool2d(images.float() * 0.5 + 0.5, size)
    return (means * (BINS - 1)).long().flatten(2).transpose(1, 2)
