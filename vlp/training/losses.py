"""The one rule by which a step's outputs become the loss that is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def total_loss(outputs: Mapping[str, Any]) -> Tensor:
    """Plain sum of every entry whose key ends in ``_loss`` (METER SPEC §5): weights are already applied.

    Raises:
        ValueError: no entry is a loss.
    """
    losses = [value for key, value in outputs.items() if key.endswith("_loss")]
    if not losses:
        raise ValueError(f"no objective is active: the step returned {sorted(outputs)}; set loss_names.<task>=1")
    return sum(losses[1:], start=losses[0])
