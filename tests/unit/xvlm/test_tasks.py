"""What holds for every task: savings change nothing, all is trained that should be, at the official rates.

Source: docs/official/xvlm.md §6.
"""

from __future__ import annotations

import importlib
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.host_waits import HostWaits
from tests.parity.fixture import check_keys
from tests.unit.small_parts import optimised
from tests.unit.xvlm.small_tasks import LOSSES, task_batch, task_model
from tests.unit.xvlm.tables import key_table
from vlp.config.schema import defaults
from vlp.losses.total import losses_of, total_loss
from vlp.nn.step_plan import step_plan
from vlp.training.ddp import unused_parameters
from xvlm.config import COMMANDS


def step(task: str, **changes: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of one step of a fresh model."""
    model = task_model(task, **changes)
    torch.manual_seed(5)  # what is drawn
    outputs = model(task_batch(task))
    total_loss(outputs).backward()
    return losses_of(outputs), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("task", LOSSES)
def test_savings_change_no_loss_and_no_gradient(task: str) -> None:
    losses, grads = step(task)
    assert list(losses) == LOSSES[task]
    model = task_model(task)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained - grads.keys() == (unused_parameters(model) or set())
    for changes in ({"pack_text": False}, {"gradient_checkpointing": True}):
        others, other_grads = step(task, **changes)
        torch.testing.assert_close(others, losses, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(other_grads, grads, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("task", LOSSES)
def test_no_host_waits_in_forward_and_backward(task: str) -> None:
    model, batch = task_model(task, dropout=0.1).train(), task_batch(task)
    batch |= step_plan(batch)
    with HostWaits() as waits:
        total_loss(model(batch)).backward()
    assert waits.operations > 100 and waits.found == Counter()


@pytest.mark.parametrize("task", LOSSES)
def test_official_rates(task: str) -> None:
    """In the stages before fine-tuning alone is a rate multiplied: that of the head of the text assignment."""
    model = task_model(task)
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=1.0)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    for name, (rate, decay, _) in optimised(optimizer, model.named_parameters(), 1e-4).items():
        assert rate == pytest.approx(2 if task == "nlvr_pretrain" and name.startswith("ta_head.") else 1), name
        without = name.endswith("bias") or "LayerNorm" in name or "norm" in name or "bias_table" in name
        assert decay == (0 if without else 0.01), name


SCRIPTS = {
    **{"retrieval": ("Retrieval", "retrieval"), "grounding": ("Grounding", "retrieval")},
    **{"nlvr": ("NLVR", "nlvr"), "nlvr_pretrain": ("NLVR_pretrain", "nlvr_pretrain")},
    **{"bbox": ("Grounding_bbox", "grounding_bbox")},
    **{"bbox_pretrain": ("Grounding_bbox_pretrain", "grounding_bbox_pretrain")},
}


@pytest.mark.parametrize("task", SCRIPTS)
def test_full_size_keys_shapes_and_order(task: str) -> None:
    """Built without memory on torch's meta device."""
    script, table = SCRIPTS[task]
    config = {**defaults(COMMANDS[script].schema), "init": "random"}
    module = importlib.import_module(f"xvlm.models.model_{task}")
    with torch.device("meta"):
        check_keys(module.XVLM(config).state_dict(), key_table(table))
