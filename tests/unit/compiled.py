"""Compare a compiled model's step with the eager one's, for tests of either Arrow baseline."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlp.losses.total import losses_of, total_loss
from vlp.sacred_dialect.task_module import TaskModule

Named = dict[str, Tensor]


class Counting:
    """A backend that counts graphs and runs them as they are."""

    graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.graphs += 1
        return graph.forward


def check_equal(compiled: TaskModule, eager: TaskModule, batch: dict[str, Any]) -> None:
    """The same losses, and gradients of the same parameters, to rounding."""
    losses, gradients = losses_and_gradients(compiled, batch)
    expected, wanted = losses_and_gradients(eager, batch)
    assert losses.keys() == expected.keys() and gradients.keys() == wanted.keys()
    assert all(torch.allclose(losses[key], value, rtol=1e-5) for key, value in expected.items())
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert all(torch.allclose(gradients[key], value, atol=1e-5 * scale) for key, value in wanted.items())


def losses_and_gradients(model: TaskModule, batch: dict[str, Any]) -> tuple[Named, Named]:
    """Of one step; every other sample keeps its image in ITM."""
    model.zero_grad()
    itm_labels = torch.arange(len(batch["text"])) % 2 if "itm" in model.current_tasks else None
    outputs = model(batch, itm_labels)
    total_loss(outputs).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {key: value.detach() for key, value in losses_of(outputs).items()}, gradients
