"""The one rule by which a step's outputs become the loss that is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def losses_of(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The entries whose key ends in ``_loss``: weights are already applied."""
    return {key: value for key, value in outputs.items() if key.endswith("_loss")}


def total_loss(outputs: Mapping[str, Any]) -> Tensor:
    """Plain sum of :func:`losses_of` (docs/official/meter.md §5).

    Raises:
        ValueError: no entry is a loss.
    """
    losses = list(losses_of(outputs).values())
    if not losses:
        raise ValueError(f"no objective is active: the step returned {sorted(outputs)}; set loss_names.<task>=1")
    return sum(losses[1:], start=losses[0])
