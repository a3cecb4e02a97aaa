"""The scaling of a float16 loss, between the official bounds (docs/official/xvlm.md §6)."""

from __future__ import annotations

from typing import Literal

import torch

LEAST, MOST = 1.0, 1024.0


class BoundedScaler(torch.amp.GradScaler):
    """torch's scaler, whose factor starts at its upper bound and never leaves its bounds."""

    def __init__(self, scale: Literal["dynamic"] | float, device: str = "cuda") -> None:
        """``scale``: a number stays as it is."""
        self.bounds = (LEAST, MOST) if scale == "dynamic" else (float(scale), float(scale))
        super().__init__(device, init_scale=self.bounds[1])

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """After a step: lower where gradients overflowed, higher after many steps that did not."""
        super().update(new_scale)
        if self._scale is not None:
            self._scale.clamp_(*self.bounds)
