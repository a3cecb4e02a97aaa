"""How often each token stands in the captions of a run, for ``epic.masking="frequency"``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from epic_vlp.lightning_epic import LightningEpic
from vlp.checkpoint.weights import read_checkpoint
from vlp.distributed import sum_across_ranks
from vlp.progress import CountProgress


def count_tokens(epic: LightningEpic, datamodule: Any, device: torch.device, rank: int, processes: int) -> None:
    """Give ``epic`` its counts, if it wants some and has none: every process counts its share, and all agree.

    Args:
        device: where processes exchange their counts, a GPU under NCCL.

    Raises:
        DataError: a file of captions can no longer be read.
    """
    if epic.config.masking == "frequency" and epic.token_counts is None:
        blocks = epic.token_blocks(datamodule)
        counts = count_blocks(blocks, range(rank, len(blocks), processes), epic.vocabulary.size, show=rank == 0)
        epic.set_token_counts(sum_across_ranks(counts.to(device)))


def count_blocks(blocks: Sequence[list[list[int]]], own: Sequence[int], size: int, show: bool = False) -> Tensor:
    """(size,) int64: how often each id stands in the texts of the blocks that ``own`` numbers."""
    counts = torch.zeros(size, dtype=torch.int64)
    progress = CountProgress("token counts", "blocks of captions", len(own), show)
    for number in own:
        ids = torch.tensor(list(chain.from_iterable(blocks[number])), dtype=torch.int64)
        counts += ids.bincount(minlength=size)
        progress.advance()
    return counts


def take_saved_counts(epic: LightningEpic, path: str) -> None:
    """Give ``epic`` the counts of the run that left the checkpoint ``path``, if it had any."""
    state = read_checkpoint(path, mmap=True).get("epic")
    counts = state.get("token_counts") if isinstance(state, dict) else None
    if counts is not None and epic.config.masking == "frequency":
        epic.set_token_counts(counts.clone())
