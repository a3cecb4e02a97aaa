"""Losses of half-precision logits are those of the same logits in float32, and are sums over nothing where K = 0."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.losses.soft_answers import soft_answer_loss, soft_targets
from vlp.sacred_dialect.objectives import classified

TARGETS = torch.tensor([2, 0, 1, 1])


def soft(logits: Tensor) -> Tensor:
    targets = soft_targets([[2, 0], [1], [], [0]], [[1.0, 0.3], [0.6], [], [0.9]], logits)
    assert targets.dtype == torch.float32 and targets[0].tolist() == pytest.approx([0.3, 0, 1])
    return soft_answer_loss(logits, targets)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "loss",
    [
        lambda logits: mean_cross_entropy(logits, TARGETS),
        lambda logits: classified("itm", logits, TARGETS)["itm_loss"],
        soft,
    ],
    ids=["masked tokens", "classes", "soft answers"],
)
def test_losses_are_taken_in_float32(loss: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    logits = (10 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0))).to(dtype)
    found = loss(logits)
    assert found.dtype == torch.float32 and torch.equal(found, loss(logits.float()))


def test_no_target_is_a_loss_of_0_with_a_graph() -> None:
    logits = torch.randn(0, 3, requires_grad=True)
    loss = mean_cross_entropy(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss == 0 and logits.grad is not None
    some = torch.randn(4, 3)
    assert torch.allclose(mean_cross_entropy(some, TARGETS), F.cross_entropy(some, TARGETS))
