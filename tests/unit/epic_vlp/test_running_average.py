"""The student's running average as the teacher of METER and ViLT: its weights, its scores, and where it is kept."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from epic_common.config import EpicConfig
from epic_common.generator import build_generator
from epic_common.saliency import saliency_scores
from epic_vlp.attach import attach_epic, new_average
from epic_vlp.check import check_files
from epic_vlp.running_average import RunningAverage
from meter.baseline import BASELINE as METER
from meter.modules.meter_module import METERTransformerSS
from tests.unit.epic.tiny import TinyModel, config_of, language_model
from tests.unit.epic_vlp.kits import KITS, Kit
from tests.unit.epic_vlp.test_attach import loaders
from tests.unit.meter.small import small_run

every = pytest.mark.parametrize("kit", KITS.values(), ids=KITS)
DECAY = 0.75


class Student(TinyModel):
    """With a head that the average has no place for."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)


def stir(model: nn.Module, step: int) -> None:
    """An optimiser step."""
    rng = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=rng))


def test_it_is_the_average_by_hand_over_steps() -> None:
    student, average = Student(), RunningAverage(TinyModel(), -2, DECAY)
    average.follow(student, 0)
    expected = {
        name: p.detach().double().clone() for name, p in student.named_parameters() if not name.startswith("head.")
    }
    for step in (1, 2, 3, 4):
        stir(student, step)
        for name, p in student.named_parameters():
            if name in expected:
                expected[name] = DECAY * expected[name] + (1 - DECAY) * p.detach().double()
        average.follow(student, step)
        average.follow(student, step)  # the same step again: nothing
        own = dict(average.module.named_parameters())
        assert own.keys() == expected.keys()
        for name, p in own.items():
            torch.testing.assert_close(p.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert not any(p.requires_grad for p in average.module.parameters()) and not average.module.training


@pytest.mark.parametrize("saved_at", [None, 2])
def test_a_saved_average_goes_on_as_if_nothing_had_happened(saved_at: int | None) -> None:
    """Saved before the first step, or in the middle; also where it was saved before it had followed the last step."""
    student, whole = Student(), RunningAverage(TinyModel(), -2, DECAY)
    broken = RunningAverage(TinyModel(), -2, DECAY)
    if saved_at is None:
        assert whole.state_dict() == {"step": None, "weights": None}
        broken.load_state_dict(whole.state_dict())
    for step in range(5):
        whole.follow(student, step)
        if step == saved_at:
            broken.load_state_dict(copy.deepcopy(whole.state_dict()))
        elif saved_at is None or step > saved_at:
            broken.follow(student, step)
        stir(student, step)
    assert broken.step == whole.step == 4
    assert all(map(torch.equal, whole.module.state_dict().values(), broken.module.state_dict().values()))


def test_a_student_that_lacks_a_weight_is_named() -> None:
    class Wider(TinyModel):
        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Linear(2, 2)

    with pytest.raises(ValueError, match=r"the student lacks 2 weights of its teacher, for example 'other\.weight'"):
        RunningAverage(Wider(), -2, DECAY).follow(TinyModel(), 0)


def student_of(kit: Kit) -> Any:
    """A student whose teacher is its running average, as attach_epic puts it in."""
    model, config = kit.student(), config_of("epic", teacher="momentum", teacher_decay=DECAY)
    generator = build_generator(config, kit.vocabulary, language_model(kit.baseline.text_family))
    average = RunningAverage(kit.teacher(), config.saliency_layer, config.teacher_decay)
    model.epic = kit.parts.epic(config, kit.vocabulary, kit.width, generator, teacher=average)
    return model


@every
def test_a_step_has_the_scores_of_the_average(kit: Kit) -> None:
    model, batch = student_of(kit), kit.batch_of([7, 5, 9])
    before = list(model.state_dict())
    made, corrupt = list[Any](), model.epic.corrupt

    def watched(*args: Any, **options: Any) -> Any:
        made.append(args[2])
        return corrupt(*args, **options)

    model.epic.corrupt = watched
    model.eval()(batch)
    same = kit.teacher()
    same.load_state_dict({name: model.state_dict()[name] for name in same.state_dict()})
    expected = saliency_scores(*same.eval().query_key(batch, -2))
    width = made[0].shape[1]
    valid = batch["text_masks"][:, :width].bool()
    torch.testing.assert_close(made[0][valid], expected[:, :width][valid], rtol=1e-4, atol=1e-4)
    assert list(model.state_dict()) == before and not any("average" in name for name in before)
    state = model.epic.run_state()
    assert state["average"]["step"] == 0 and state["teacher_sha256"] is None and state["snapshot"] is None


def test_it_is_attached_without_a_file_and_draws_nothing_of_the_students(tmp_path: Path) -> None:
    config = small_run(tmp_path, epic={"enabled": True, "teacher": "momentum", "teacher_decay": 0.9})
    before = torch.get_rng_state()
    average = new_average(METER, config, EpicConfig.from_dict(config["epic"]))
    assert torch.equal(torch.get_rng_state(), before) and average.decay == 0.9
    assert not any(name.startswith(("mlm_score", "itm_score")) for name in average.module.state_dict())
    model = METERTransformerSS(config)
    attach_epic(METER, model, loaders(tmp_path), rank=0)
    assert isinstance(model.epic.teacher, RunningAverage)
    own = {name for name in model.state_dict() if name.startswith("epic.")}
    assert {name.split(".")[1] for name in own} == {"generator", "head"}


def test_a_layer_that_the_student_does_not_have_is_refused(tmp_path: Path) -> None:
    config = small_run(tmp_path, epic={"enabled": True, "teacher": "momentum", "saliency_layer": 5})
    with pytest.raises(ValueError, match=r"epic\.saliency_layer=5: the student has \d+ fusion layers, -\d+ to \d+"):
        check_files(METER, config, EpicConfig.from_dict(config["epic"]))


def test_a_cache_of_what_changes_is_refused(tmp_path: Path) -> None:
    config = small_run(tmp_path, epic={"enabled": True, "teacher": "momentum"}, saliency_cache=str(tmp_path))
    with pytest.raises(ValueError, match=r"with epic\.teacher=momentum the teacher is another one in every step"):
        check_files(METER, config, EpicConfig.from_dict(config["epic"]))
