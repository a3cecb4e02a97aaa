"""How a script says which official checkpoints the end of an epoch leaves, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import lightning as L
from torch import nn

from vlp.checkpoint.recognition import EPIC_PREFIX
from vlp.checkpoint.weights import ADDED_KEY

Files = dict[str, dict[str, Any]]  # name of a file in the run's folder -> its content


class EpochEnd(NamedTuple):
    """A whole epoch of a run that has just been trained and scored, or the end that max_steps gives a run.

    Attributes:
        better: whether its evaluation is the best so far; True where a script selects nothing.
        ended: by max_steps: what is left has the name that the last epoch's would have.
    """

    trainer: L.Trainer
    module: nn.Module
    config: Mapping[str, Any]
    better: bool
    ended: bool = False

    @property
    def epoch(self) -> int:
        """Counted from 0."""
        return (self.trainer.max_epochs or 1) - 1 if self.ended else self.trainer.current_epoch

    @property
    def last(self) -> bool:
        """Whether it ends the run."""
        return self.epoch + 1 == self.trainer.max_epochs


# Every rank calls it, rank 0 writes the files. The first one is the epoch's checkpoint, which results.json names.
Keeps = Callable[[EpochEnd], Files]


def official_weights(module: nn.Module) -> dict[str, Any]:
    """``model``: the weights by official names alone, so that official code loads them strictly.

    EPIC's own stand in ADDED_KEY.
    """
    state = module.state_dict()
    added = {name: tensor for name, tensor in state.items() if name.startswith(EPIC_PREFIX)}
    return {
        "model": {name: tensor for name, tensor in state.items() if name not in added},
        **({ADDED_KEY: added} if added else {}),
    }
