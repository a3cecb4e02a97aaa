"""Runs of METER and ViLT with EPIC in a patched checkout: groups, checkpoints, logs and refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.patches_official.sacred_models import FAKES, epic_losses, every, files, new, own, teacher_of

__all__ = ["files", "new"]  # fixtures


@every
def test_groups_are_ours(new: Any, name: str) -> None:
    fake, model = FAKES[name], new(name, itc_head_lr_mult=3.0, generator_lr_mult=0.5)
    named = list(model.named_parameters())
    rate = model.config["learning_rate"]
    groups: list[dict[str, Any]] = [
        {"params": [p for n, p in named if ("bias" in n) == biases], "weight_decay": 0.01 * (not biases), "lr": rate}
        for biases in (False, True)
    ]
    fake.support.add_groups(model, groups)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(named)
    for key, parameter in named:
        factor = 3.0 if key.startswith("epic.head") else 0.5 if key.startswith("epic.generator") else 1.0
        assert rates[id(parameter)] == pytest.approx((rate * factor, 0.0 if "bias" in key else 0.01)), key
    assert not any("epic" in key for group in groups[:2] for key in _names(model, group))


def _names(model: Any, group: dict[str, Any]) -> list[str]:
    members = {id(p) for p in group["params"]}
    return [key for key, p in model.named_parameters() if id(p) in members]


@pytest.mark.parametrize(("name", "preset"), [("meter", "epic"), ("meter", "vlm_sas"), ("vilt", "epic")])
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(new: Any, name: str, preset: str, tmp_path: Path) -> None:
    batch = FAKES[name].batch_of([7, 4, 6])
    model = new(name, preset, generator_dropout=False).train()
    model(batch)
    if preset == "vlm_sas":
        model.epic.refresh(model, step=5, steps_per_epoch=2)
    checkpoint: dict[str, Any] = {"state_dict": copy.deepcopy(model.state_dict())}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    torch.manual_seed(2)  # of the student's own dropout
    expected = epic_losses(model(batch))

    resumed = new(name, preset, generator_dropout=False).train()
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    resumed.load_state_dict(saved["state_dict"])
    resumed.on_load_checkpoint(saved)
    torch.manual_seed(2)
    got = epic_losses(resumed(batch))
    assert all(torch.equal(got[key], expected[key]) for key in expected)
    assert resumed.epic.train_metrics.compute() == model.epic.train_metrics.compute()

    saved["epic"]["teacher_sha256"] = "0" * 64
    with pytest.raises(ValueError, match="give the same teacher_path"):
        resumed.on_load_checkpoint(saved)
    saved["epic"]["rng"] = 2 * saved["epic"]["rng"]
    with pytest.raises(ValueError, match="saved by 2 processes and this run has 1"):
        resumed.on_load_checkpoint(saved)


@every
def test_the_state_of_a_checkpoint_is_that_of_our_own(new: Any, name: str) -> None:
    patched = new(name)
    mine = own(FAKES[name], patched)
    patched.train()(FAKES[name].batch_of([7, 4, 6]))
    mine.epic.load_run_state(patched.epic.run_state(), rank=0)
    assert torch.equal(mine.epic.rng_state(), patched.epic.rng_state())
    state = mine.epic.run_state()
    without_teacher = state.pop("average"), state.pop("token_counts")  # of maskings that checkouts do not have
    assert state.keys() == patched.epic.run_state().keys() and without_teacher == (None, None)


def test_frozen_models_move_with_the_student_and_are_no_part_of_it(new: Any) -> None:
    model = new("meter", "vlm_sas")
    assert not any("teacher" in key or "snapshot" in key for key in model.state_dict())
    assert not any(p.requires_grad for p in teacher_of(model).parameters()) and not teacher_of(model).training
    model.double()
    assert next(teacher_of(model).parameters()).dtype == torch.float64
    assert teacher_of(model.train()).training is False


@every
def test_metrics_are_logged_as_training_goes_on(new: Any, name: str) -> None:
    model, batch = new(name).eval(), FAKES[name].batch_of([7, 4, 6])
    logged: list[tuple[int, set[str]]] = []

    class Logger:
        def log_metrics(self, values: dict[str, float], step: int) -> None:
            logged.append((step, {key.rsplit("/", 1)[0] for key in values}))

    class Watched(type(model)):  # type: ignore[misc]
        logger, global_step = Logger(), 0

    model.__class__ = Watched
    model(batch)
    for step in (1, 9, 10, 10, 11):
        Watched.global_step = step
        model.train()(batch)
    assert logged == [(1, {"epic/val"}), (10, {"epic/train"})]


# Refusals ------------------------------------------------------------------------------------------------


@every
def test_what_cannot_be_run_is_refused_in_one_line(new: Any, files: Any, name: str, tmp_path: Path) -> None:
    weights = torch.load(files(name) / "teacher.ckpt", weights_only=True)["state_dict"]
    lacking = {key: value for key, value in weights.items() if "token_type_embeddings" not in key}
    torch.save({"state_dict": lacking}, tmp_path / "lacking.ckpt")
    tasks = dict.fromkeys(FAKES[name].config_of()["loss_names"], 0)
    for message, keys, epic in (
        ("epic.enabled needs teacher_path=CHECKPOINT", {"teacher_path": ""}, {}),
        ("lacks 2 of the weights .*token_type_embeddings", {"teacher_path": str(tmp_path / "lacking.ckpt")}, {}),
        ("EPIC is a pre-training objective", {"loss_names": {**tasks, "vqa": 1}}, {}),
        ("needs loss_names.mlm=1", {"loss_names": {**tasks, "itm": 1}}, {"replacement": "vlm"}),
        ("the nearest is epic.mask_ratio", {}, {"mask_rati": 0.3}),
        (r"epic\.teacher='momentum' is not possible in an official checkout", {}, {"teacher": "momentum"}),
        (r"epic\.masking='frequency' is not possible in an official checkout", {}, {"masking": "frequency"}),
    ):
        with pytest.raises(ValueError, match=message):
            new(name, keys=keys, **epic)
