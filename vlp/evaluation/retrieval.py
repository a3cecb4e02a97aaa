"""Scores of every image against every caption; what does not depend on the pair is computed once per image and caption.

The official loops of METER and ViLT repeat it for every pair; the scores are the same.

Source: docs/official/meter.md §7.1, docs/official/vilt.md §7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vlp.distributed import sum_across_ranks
from vlp.evaluation.score_blocks import ScoreBlocks, digest
from vlp.progress import CountProgress


class EncodedCaptions(NamedTuple):
    """Captions ready for fusion."""

    states: Tensor  # (C, n, d)
    mask: Tensor  # (C, n)


class Ranker(Protocol):
    """A model that ranks pairs."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    def caption_states(self, ids: Tensor, mask: Tensor) -> Any:
        """Captions ids (C, n), mask (C, n), 1 = valid -> what :meth:`score_captions` needs of them."""

    def score_captions(self, image: Tensor, captions: list[Any]) -> Tensor:
        """One image (3, H, W) against all captions, in batches of :meth:`caption_states` -> (M,) ranking scores."""


@torch.no_grad()
def score_pairs(
    model: Ranker,
    image: Callable[[int], Tensor],
    images: int,
    captions: Iterable[tuple[Tensor, Tensor]],
    rank: int = 0,
    world: int = 1,
    blocks: ScoreBlocks | None = None,
) -> Tensor:
    """Scores (N images, M captions) of all pairs, on every rank; the images are divided among the ranks.

    Args:
        image: number -> (3, H, W); ``images`` is N.
        captions: batches of ids (C, n) and mask (C, n), M captions in all.
        rank, world: of this process.
        blocks: rows that an earlier evaluation has left, and those that this one leaves.
    """
    encoded, count, blocks, given = [], 0, blocks or ScoreBlocks(None), list(captions)
    blocks.begin(tensor for batch in given for tensor in batch)
    for ids, mask in given:
        count += len(ids)
        with half_precision(model.device):
            encoded.append(model.caption_states(ids.to(model.device), mask.to(model.device)))
    scores = torch.zeros(images, count, device=model.device)
    own = range(rank, images, world)
    progress = CountProgress("retrieval", "images", len(own), show=rank == 0)
    for i in own:
        shown = image(i)
        known = digest([shown])
        row = blocks.row(i, known)
        if row is None:
            with half_precision(model.device):
                row = model.score_captions(shown.to(model.device), encoded)
            blocks.add(i, known, row)
        scores[i] = row
        progress.advance()
    scores = sum_across_ranks(scores)
    blocks.remove()
    return scores


def half_precision(device: torch.device) -> torch.autocast:
    """The official evaluations run in fp16 on GPUs."""
    return torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")
