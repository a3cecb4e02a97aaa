"""The frozen teacher and the snapshot of the student."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from epic_common.teacher import SasSnapshot, Teacher, file_sha256
from tests.unit.epic.tiny import MASK, TinyModel, batch_of


def model(seed: int) -> TinyModel:
    torch.manual_seed(seed)
    return TinyModel()


def test_it_is_frozen_and_stays_in_eval_mode_whatever_its_holder_does() -> None:
    teacher, holder = Teacher(model(0).train()), nn.Module()
    holder.teacher = teacher  # type: ignore[assignment]
    holder.train().requires_grad_(True).to("meta")
    batch = batch_of(5, 3)
    scores = teacher.saliency(batch)
    assert not scores.requires_grad and scores.shape == batch["ids"].shape
    assert not any(m.training for m in teacher.module.modules())
    assert not any(p.requires_grad for p in teacher.module.parameters())


def test_dropout_is_off_in_its_mlm_head_too() -> None:
    snapshot = SasSnapshot(Teacher(model(0)))
    batch = batch_of(5, 3)
    places = (batch["ids"] > MASK).flatten().nonzero().squeeze(1)
    first, second = (snapshot.mlm_logits_at(batch, batch["ids"], places) for _ in range(2))
    assert torch.equal(first, second) and not first.requires_grad


def test_it_asks_for_the_configured_layer() -> None:
    batch = batch_of(5, 3)
    torch.testing.assert_close(Teacher(model(0), -2).saliency(batch), 2 * Teacher(model(0), -1).saliency(batch))


def test_it_records_the_hash_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "teacher.ckpt"
    path.write_bytes(b"weights" * 500_000)
    assert (
        Teacher(model(0), checkpoint=path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == file_sha256(path)
    )
    assert Teacher(model(0)).sha256 is None


def test_a_file_with_weights_that_are_no_numbers_is_named(tmp_path: Path) -> None:
    broken, path = model(0), tmp_path / "teacher.ckpt"
    path.touch()
    name, weight = next(iter(broken.named_parameters()))
    weight.data.flatten()[0] = torch.inf
    with pytest.raises(ValueError, match=rf"{path}: NaN or infinite values in {name}; give others"):
        Teacher(broken, checkpoint=path)


@pytest.mark.parametrize("held", [Teacher, lambda tiny: SasSnapshot(Teacher(tiny))])
def test_it_runs_where_it_was_placed_and_nowhere_else(held: Callable[[TinyModel], Teacher | SasSnapshot]) -> None:
    tiny, batch = model(0), batch_of(5, 3)
    frozen = held(tiny)
    frozen.place(torch.device("meta"))
    assert {p.device.type for p in tiny.parameters()} == {"meta"}
    message = r"the frozen model is on meta and its batch on cpu: call place\(cpu\) once"
    with pytest.raises(RuntimeError, match=message):
        if isinstance(frozen, Teacher):
            frozen.saliency(batch)
        else:
            frozen.mlm_logits_at(batch, batch["ids"], batch["ids"] > MASK)


def test_it_is_not_placed_in_inference_mode() -> None:
    """A snapshot of inference tensors could not be refreshed."""
    teacher = Teacher(model(0))
    with torch.inference_mode(), pytest.raises(RuntimeError, match="place the frozen model before inference mode"):
        teacher.place(torch.device("cpu"))


def test_the_snapshot_is_the_teacher_until_the_first_refresh() -> None:
    teacher, student = Teacher(model(0)), model(1)
    snapshot = SasSnapshot(teacher)
    batch = batch_of(5, 3)
    places = (batch["ids"] > MASK).flatten().nonzero().squeeze(1)
    with torch.no_grad():
        expected = teacher.model.mlm_logits_at(batch, batch["ids"], places)
    assert not any(snapshot.maybe_refresh(step, student, every=4) for step in range(4))
    assert torch.equal(snapshot.mlm_logits_at(batch, batch["ids"], places), expected)
    assert snapshot.maybe_refresh(4, student, every=4)
    assert not snapshot.maybe_refresh(4, student, every=4)
    now = snapshot.mlm_logits_at(batch, batch["ids"], places)
    with torch.no_grad():  # frozen, for PyTorch's attention computes parameters that take gradients by another kernel
        assert torch.equal(now, student.eval().requires_grad_(False).mlm_logits_at(batch, batch["ids"], places))
    untouched = SasSnapshot(teacher).mlm_logits_at(batch, batch["ids"], places)
    assert torch.equal(untouched, expected)


def test_the_snapshot_is_a_copy_that_does_not_follow_the_student() -> None:
    teacher, student = Teacher(model(0)), model(1)
    snapshot = SasSnapshot(teacher)
    snapshot.maybe_refresh(1, student, every=1)
    before = copy.deepcopy(snapshot.state_dict())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before["weights"][k], v) for k, v in snapshot.state_dict()["weights"].items())
    assert student.words.weight.requires_grad and student.training
    refreshed = [step for step in range(2, 12) if snapshot.maybe_refresh(step, student, every=3)]
    assert refreshed == [4, 7, 10]


def test_a_student_with_epics_own_weights_and_one_that_lacks_some() -> None:
    snapshot, student = SasSnapshot(Teacher(model(0))), model(1)
    student.epic = nn.Linear(2, 2)
    assert snapshot.maybe_refresh(1, student, every=1)
    assert not any(name.startswith("epic") for name in snapshot.state_dict()["weights"])
    with pytest.raises(ValueError, match="lacks 2 weights of its teacher"):
        bare = model(2)
        del bare.mlm
        snapshot.maybe_refresh(2, bare, every=1)
    with pytest.raises(ValueError, match="every 1 or more steps"):
        snapshot.maybe_refresh(3, student, every=0)


@pytest.mark.parametrize("refreshed", [False, True])
def test_the_snapshot_survives_a_resume(refreshed: bool) -> None:
    teacher = Teacher(model(0))
    first = SasSnapshot(teacher)
    if refreshed:
        first.maybe_refresh(5, model(1), every=5)
    second = SasSnapshot(teacher)
    second.load_state_dict(first.state_dict())
    batch = batch_of(5, 3)
    places = (batch["ids"] > MASK).flatten().nonzero().squeeze(1)
    assert torch.equal(
        second.mlm_logits_at(batch, batch["ids"], places), first.mlm_logits_at(batch, batch["ids"], places)
    )
    assert second.refreshed_at == first.refreshed_at
    assert second.maybe_refresh(9, model(3), every=5) == (not refreshed)
