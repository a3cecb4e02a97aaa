"""Both models of Fig. 2 learn the same masks, the one with the image by the baseline's own optimiser."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from reproduce.figures.masked_learning import Learner, learners_of
from reproduce.figures.masked_models import Models
from tests.unit.albef import epic as albef
from tests.unit.epic_vlp.kits import METER_KIT
from tests.unit.reproduce.figure_parts import CASES, Case
from tests.unit.xvlm import epic as xvlm

STEPS = 40
CONFIGS: dict[str, dict[str, Any]] = {
    "albef": {
        "optimizer": {"lr": 1e-3, "weight_decay": 0.02},
        "schedular": {"min_lr": 1e-5, "warmup_lr": 1e-4, "warmup_epochs": 1, "epochs": 4},
    },
    "xvlm": {
        **{"optimizer": {"lr": 1e-3, "weight_decay": 0.01, "lr_mult": 2}},
        "schedular": {"epochs": 4, "num_warmup_steps": 0.1},
        **{"train_file_regions": "", "regions": {"iter_perc": 0.0}},
    },
}
STUDENTS = {"albef": albef.student, "xvlm": xvlm.student}


def learners(name: str, case: Case) -> tuple[Models, Any, dict[str, Learner]]:
    """The learners of small models, and the baseline's own model."""
    models = case.models()
    if name in CONFIGS:
        own = STUDENTS[name](**CONFIGS[name])
        config = CONFIGS[name]
    else:
        own, config = models.with_image, models.with_image.config  # type: ignore[assignment]
        config |= {"max_steps": STEPS, "learning_rate": 1e-3, "weight_decay": 0.01, "warmup_steps": 0.1}
    return models, own, learners_of(models, own, config, STEPS)


@pytest.mark.parametrize("name", CASES)
def test_a_step_goes_down_the_loss_of_the_batchs_own_masks(name: str) -> None:
    case = CASES[name]
    _, _, both = learners(name, case)
    batch = case.batch_of([7, 5, 9])
    labels = batch["text_labels_mlm"]
    places = (labels != -100).flatten().nonzero().squeeze(1)
    for learner in both.values():
        with torch.no_grad():
            logits = learner.predict(batch, batch["text_ids_mlm"], places)
        expected = F.cross_entropy(logits, labels.flatten()[places])
        losses = [float(learner.step(batch)) for _ in range(12)]
        assert losses[0] == pytest.approx(float(expected), rel=1e-5)
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", CASES)
def test_both_schedules_take_the_same_course_over_the_steps(name: str) -> None:
    _, _, both = learners(name, CASES[name])
    courses: dict[str, list[float]] = {}
    for kind, learner in both.items():
        group = learner.optimizer.param_groups[0]
        for _ in range(STEPS):
            courses.setdefault(kind, []).append(group["lr"] / group["initial_lr"])
            learner.optimizer.step()
            learner.schedule.step()
    assert courses["with_image"] == pytest.approx(courses["text_only"])
    assert max(courses["text_only"]) > courses["text_only"][-1] and courses["text_only"][-1] < 0.2


@pytest.mark.parametrize("name", CASES)
def test_what_predicts_is_in_the_official_groups_once_with_their_rates(name: str) -> None:
    models, own, both = learners(name, CASES[name])
    optimizer = both["with_image"].optimizer
    place = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(place)
    parameters = dict(models.with_image.named_parameters())
    assert set(place) == {id(p) for p in parameters.values()}
    if own is models.with_image:
        return
    official = {id(p): group for group in own.parameter_groups() for p in group["params"]}
    for path, theirs in own.named_parameters():
        if path in parameters:
            ours, given = place[id(parameters[path])], official[id(theirs)]
            assert ours["weight_decay"] == given["weight_decay"]
            assert ours["initial_lr"] == given.get("lr", CONFIGS[name]["optimizer"]["lr"])


def test_the_heads_of_meter_learn_faster() -> None:
    models, _, both = learners("meter", CASES["meter"])
    rates = {id(p): group["initial_lr"] for group in both["with_image"].optimizer.param_groups for p in group["params"]}
    head = dict(models.with_image.named_parameters())["mlm_score.transform.dense.weight"]
    assert rates[id(head)] == pytest.approx(5e-3) and METER_KIT.official_groups == 6


def test_gradients_are_cut_to_length_one() -> None:
    layer = nn.Linear(1, 3)

    def predict(batch: Any, ids: Tensor, places: Tensor) -> Tensor:
        return 1e3 * layer(ids.flatten()[places].float()[:, None])

    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    learner = Learner(layer, predict, optimizer, LambdaLR(optimizer, lambda _: 1.0))
    before = [p.detach().clone() for p in layer.parameters()]
    ids = torch.tensor([[1, 2]])
    learner.step({"text_ids_mlm": ids, "text_labels_mlm": torch.tensor([[0, -100]])})
    moved = torch.cat([(p - old).flatten() for p, old in zip(layer.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(1.0, rel=1e-3)
