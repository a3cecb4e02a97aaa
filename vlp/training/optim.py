"""The AdamW update that METER and ViLT were trained with (METER SPEC §6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdamW(Optimizer):
    """p <- p - lr·√(1-β2^t)/(1-β1^t) · m/(√v + eps), THEN p <- p - lr·weight_decay·p.

    ``torch.optim.AdamW`` decays first and adds eps to the bias-corrected √v: other numbers.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(group, params)
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p] = {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            self.state[p]["step"] += 1
        grads = [p.grad for p in params if p.grad is not None]
        m = [self.state[p]["exp_avg"] for p in params]
        v = [self.state[p]["exp_avg_sq"] for p in params]
        beta1, beta2 = group["betas"]

        torch._foreach_mul_(m, beta1)
        torch._foreach_add_(m, grads, alpha=1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, grads, grads, value=1 - beta2)
        denominator = torch._foreach_sqrt(v)
        torch._foreach_add_(denominator, group["eps"])
        # Parameters that skipped a step (no gradient) have their own t.
        sizes = [
            -group["lr"] * (1 - beta2 ** self.state[p]["step"]) ** 0.5 / (1 - beta1 ** self.state[p]["step"])
            for p in params
        ]
        torch._foreach_addcdiv_(params, m, denominator, sizes)
        if group["weight_decay"] > 0:
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
