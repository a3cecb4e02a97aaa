"""The phase in a run's log tags."""

from __future__ import annotations

from torch import nn


def phase_of(model: nn.Module) -> str:
    """ "train" while the module is in training mode, else "val" (also during test)."""
    return "train" if model.training else "val"
