"""A mean over an epoch that is added up on the device."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import MeanMetric


class RunningMean(MeanMetric):
    """torchmetrics' mean over all values but NaN, added up on the device: theirs reads every value on the host."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="ignore")

    def update(self, value: Tensor, weight: int | Tensor) -> None:  # type: ignore[override]
        """Count ``value`` () as ``weight`` equal ones."""
        value = value.to(self.dtype)
        nan = value.isnan()
        self.mean_value += (value * weight).masked_fill(nan, 0.0)
        self.weight += ~nan * weight
