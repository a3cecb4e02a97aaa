"""ALBEF's pre-training step: with all savings it is the plain step, and no host waits for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from albef.models.contrastive_model import Similarities
from benchmarks.host_waits import HostWaits
from tests.unit.albef.small import pretraining, pretraining_batch
from vlp.losses.total import losses_of, total_loss
from vlp.nn.fusion_passes import Negatives
from vlp.nn.step_plan import step_plan

DRAWN = Negatives(torch.tensor([2, 0, 1]), torch.tensor([1, 2, 2]))


def step(model: Any, batch: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses, and the gradients of their sum."""
    outputs = model(batch, 0.4, DRAWN)
    total_loss(outputs).backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return losses_of(outputs), grads


@pytest.mark.parametrize("changes", [{"gradient_checkpointing": True}, {"pack_text": False}, {"compile": "eager"}])
def test_every_way_to_compute_a_step_gives_its_losses_and_gradients(changes: dict[str, Any]) -> None:
    batch = pretraining_batch()
    losses, grads = step(pretraining(), batch)
    others, other_grads = step(pretraining(**changes), batch)
    torch.testing.assert_close(others, losses)
    torch.testing.assert_close(other_grads, grads, rtol=1e-4, atol=1e-6)
    assert grads.keys() == other_grads.keys() and all(grad is not None for grad in grads.values())


def test_the_momentum_model_takes_no_gradient_and_follows_before_it_is_asked() -> None:
    model = pretraining()
    before, trained = model.text_proj_m.weight.clone(), model.text_proj.weight
    model(pretraining_batch(), 0.4, DRAWN)
    torch.testing.assert_close(model.text_proj_m.weight, 0.9 * before + 0.1 * trained)
    assert not any(p.requires_grad for name, p in model.named_parameters() if "_m." in name)


def test_the_queues_hold_the_newest_features_and_go_round() -> None:
    model = pretraining()
    for _ in range(5):
        model(pretraining_batch(), 0.4, DRAWN)
    assert model.queue_ptr.item() == 5 * 3 % 12
    momentum = model.visual_encoder_m(pretraining_batch()["image"])[:, 0]
    newest = torch.nn.functional.normalize(model.vision_proj_m(momentum), dim=-1)
    torch.testing.assert_close(model.image_queue[:, :3], newest.T)


def test_a_batch_without_a_masked_token_has_no_mlm_loss_and_gradients_everywhere() -> None:
    losses, grads = step(pretraining(), pretraining_batch(masked=0))
    assert losses["mlm_loss"].item() == 0
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())


def test_the_temperature_is_kept_within_its_bounds() -> None:
    model = pretraining()
    model.temp.data.fill_(0.7)
    model(pretraining_batch(), 0.4, DRAWN)
    assert model.temp.item() == 0.5


@pytest.mark.parametrize("pack_text", [True, False])
def test_no_host_waits_in_forward_and_backward(pack_text: bool) -> None:
    model, batch = pretraining(dropout=0.1, pack_text=pack_text).train(), pretraining_batch()
    batch |= step_plan(batch)
    with HostWaits() as waits:
        total_loss(model(batch, 0.4)).backward()
    assert not waits.found


def test_negatives_are_never_the_own_pair() -> None:
    model = pretraining()
    own = torch.eye(3)
    similar = Similarities(own * 1e4, own * 1e4)  # whose softmax leaves the others nothing
    for _ in range(20):
        images, texts, lacking = model.hard_negatives(similar, own.bool())
        assert all((drawn != torch.arange(3)).all() for drawn in (images, texts)) and not lacking.any()
