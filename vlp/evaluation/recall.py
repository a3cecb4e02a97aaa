"""Recall@k of image-text retrieval from a score matrix (docs/official/meter.md §7.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Recalls(NamedTuple):
    """Fractions of captions that find their image (image retrieval), then of images that find a caption of theirs."""

    ir_r1: float
    ir_r5: float
    ir_r10: float
    tr_r1: float
    tr_r5: float
    tr_r10: float


def recalls(scores: Tensor, caption_image: Tensor) -> Recalls:
    """Recall at 1, 5 and 10 in both directions.

    IR@k is the share of captions whose image is among the k best images; TR@k the share of images with at least one of
    their captions among the k best captions. Among equal scores the lower index ranks first. With fewer than k
    candidates all of them are among the best; an image without captions is a miss.

    Args:
        scores: (N images, M captions), higher is better.
        caption_image: (M,) the row of each caption's image.

    Raises:
        ValueError: the shapes do not fit, an index is no row, there is nothing to rank, or a score is NaN.
    """
    _check(scores, caption_image)
    image_rank = _image_ranks(scores, caption_image)
    caption_rank = _caption_ranks(scores, caption_image)
    at = (1, 5, 10)
    ir = [(image_rank < k).double().mean().item() for k in at]
    tr = [(caption_rank < k).double().mean().item() for k in at]
    return Recalls(*ir, *tr)


def _check(scores: Tensor, caption_image: Tensor) -> None:
    if scores.ndim != 2 or caption_image.shape != scores.shape[1:]:
        raise ValueError(
            f"scores must be (images, captions) and caption_image (captions,), "
            f"got {tuple(scores.shape)} and {tuple(caption_image.shape)}"
        )
    if scores.numel() == 0:
        raise ValueError(f"nothing to rank: scores are {tuple(scores.shape)}")
    if caption_image.min() < 0 or caption_image.max() >= scores.shape[0]:
        raise ValueError(f"caption_image must index the {scores.shape[0]} images")
    if scores.isnan().any():
        image, caption = (int(i) for i in scores.isnan().nonzero()[0])
        raise ValueError(f"the score of image {image} and caption {caption} is NaN")


def _image_ranks(scores: Tensor, caption_image: Tensor) -> Tensor:
    """(M,) how many images come before each caption's own."""
    own = scores.gather(0, caption_image[None])  # (1, M)
    earlier = torch.arange(scores.shape[0], device=scores.device)[:, None] < caption_image
    return ((scores > own) | ((scores == own) & earlier)).sum(0)


def _caption_ranks(scores: Tensor, caption_image: Tensor) -> Tensor:
    """(N,) how many captions come before each image's best own one; no k reaches an image that has none."""
    images, captions = scores.shape
    index = torch.arange(captions, device=scores.device)
    own = caption_image == torch.arange(images, device=scores.device)[:, None]  # (N, M)
    best = scores.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
    first = torch.where(own & (scores == best), index, captions).amin(1, keepdim=True)
    rank = ((scores > best) | ((scores == best) & (index < first))).sum(1)
    return torch.where(own.any(1), rank, torch.iinfo(rank.dtype).max)
