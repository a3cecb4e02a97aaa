"""What stops a run whose teacher or language model gives NaN or infinity: at the load, or in a step by the loss."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


def check_weights(model: nn.Module, source: str | Path) -> None:
    """Refuse a model that was loaded from ``source`` with weights that are NaN or infinite.

    Raises:
        ValueError: naming the first ones.
    """
    wrong = [name for name, weight in model.named_parameters() if not all(end.isfinite() for end in weight.aminmax())]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{source}: NaN or infinite values in {', '.join(wrong[:3])}{more}; give others")


def zero_or_nan(finite: Tensor) -> Tensor:
    """A term of the loss: 0 where ``finite``, () bool, is True, else NaN. The host does not wait for the answer."""
    return torch.zeros((), device=finite.device).masked_fill(~finite, torch.nan)
