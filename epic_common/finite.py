"""What stops a run whose teacher or frozen generator, which have no loss of their own, gives NaN or infinity."""

from __future__ import annotations

import torch
from torch import Tensor


def zero_or_nan(finite: Tensor) -> Tensor:
    """A term of the loss: 0 where ``finite``, () bool, is True, else NaN. The host does not wait for the answer."""
    return torch.zeros((), device=finite.device).masked_fill(~finite, torch.nan)
