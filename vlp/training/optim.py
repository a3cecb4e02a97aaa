"""The optimisers of the baselines, their states on every process or divided among all.

Source: docs/official/meter.md §6, docs/official/vilt.md §6, docs/official/albef.md §6,
docs/official/xvlm.md §6.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.optim import SGD, Adam, Optimizer

log = logging.getLogger(__name__)


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


KINDS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adamw": (AdamW, {}),  # METER's, ViLT's and X-VLM's
    "adam": (Adam, {}),
    "sgd": (SGD, {"momentum": 0.9}),
    "adamW": (torch.optim.AdamW, {"betas": (0.9, 0.999), "eps": 1e-8}),  # ALBEF's
}


def build_optimizer(groups: list[dict[str, Any]], kind: str, learning_rate: float, shard: bool = False) -> Optimizer:
    """The optimiser ``kind`` over parameter groups, after the process group is set up.

    Args:
        shard: every process keeps the states of its share of the parameters alone, updates them and sends them to the
            others: the same numbers for less memory. Its checkpoints hold all states, in the unsharded format.

    Raises:
        ValueError: an unknown ``kind``.
    """
    if kind not in KINDS:
        raise ValueError(f"optim_type={kind!r}: choose {', '.join(KINDS)}")
    optimizer_class, settings = KINDS[kind]
    if not shard:
        return optimizer_class(groups, lr=learning_rate, **settings)  # type: ignore[call-arg]
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        log.info("[optim] shard_optimizer=True changes nothing: one process holds all states")
        return build_optimizer(groups, kind, learning_rate)
    optimizer = ZeroRedundancyOptimizer(groups, optimizer_class, lr=learning_rate, **settings)
    log.info("[optim] states divided among %d processes", dist.get_world_size())
    return optimizer
