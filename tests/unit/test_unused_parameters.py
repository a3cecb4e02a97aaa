"""What a model tells DDP: the parameters without a gradient after a real backward pass are exactly those it names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from epic_common.config import PRESETS
from meter.config import NAMED_CONFIGS as METER_CONFIGS
from meter.modules.encoders import Encoders
from meter.modules.meter_module import METERTransformerSS
from tests.unit.epic_vlp.kits import KITS, Batch, Kit, every
from tests.unit.meter import small as meter_small
from tests.unit.small_parts import stirred
from tests.unit.vilt import small as vilt_small
from vilt.config import NAMED_CONFIGS as VILT_CONFIGS
from vlp.checkpoint.loading import freeze_itm_head
from vlp.losses.total import total_loss
from vlp.training.ddp import unused_parameters

LENGTHS = (5, 7, 4)
ANSWERS = 7
VARIANTS = sorted(set(PRESETS) - {"vanilla"})
# As usual; without a token that MLM asks for; without a word that EPIC could mask.
MASKINGS: dict[str, dict[str, Any]] = {
    "some": {},
    "none": {"masked": []},
    "no words": {"lengths": (2, 2), "masked": []},
}

Tasks = dict[str, float]


def combinations(named: dict[str, dict[str, Any]]) -> list[Tasks]:
    """Every ``loss_names`` that a named config makes, and MLM alone; those that are on."""
    made = [{task: n for task, n in c["loss_names"].items() if n} for c in named.values() if "loss_names" in c]
    return [tasks for i, tasks in enumerate([*made, {"mlm": 1.0}]) if tasks not in made[:i]]


def label(value: Any) -> str | None:
    return "+".join(f"{task}{n:g}" for task, n in value.items()) if isinstance(value, dict) else None


def answered(batch: Batch, tasks: Tasks) -> Batch:
    """With what the tasks ask for beside texts and images."""
    size = len(batch["text"])
    batch |= {"vqa_labels": [[i % ANSWERS] for i in range(size)], "vqa_scores": [[1.0]] * size}
    batch["labels"] = [i % 3 for i in range(size)]
    return vilt_small.image_pair(batch) if "nlvr2" in tasks else batch


def as_in_a_run(model: Any) -> Any:
    """In training, retrieval's matching head frozen."""
    if {"irtr", "itm"} <= set(model.heads):
        freeze_itm_head(model)
    return model.train()


def without_gradient(model: nn.Module, batch: Batch) -> set[str]:
    """Names of the parameters that a backward pass of all losses leaves without a gradient, less frozen ones."""
    total_loss(model(batch)).backward()
    return {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}


def told(model: nn.Module) -> set[str]:
    names = unused_parameters(model)
    assert names is not None and names <= dict(model.named_parameters()).keys()
    return {name for name in names if model.get_parameter(name).requires_grad}


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("vision", ["clip", "swin"])
@pytest.mark.parametrize("tasks", combinations(METER_CONFIGS), ids=label)
def test_meter(tasks: Tasks, vision: str, masking: str) -> None:
    config = meter_small.config_of(vision, vqav2_label_size=ANSWERS)
    config["loss_names"] = {**dict.fromkeys(config["loss_names"], 0), **tasks}
    towers = Encoders(
        meter_small.vision_tower(vision), meter_small.text_tower("bert" if vision == "swin" else "roberta")
    )
    model = as_in_a_run(stirred(METERTransformerSS(config, towers)))
    batch = meter_small.batch_of(
        **{"lengths": LENGTHS, **MASKINGS[masking]}, image_size=meter_small.IMAGE_SIZE[vision], false_texts=2
    )
    assert without_gradient(model, answered(batch, tasks)) == told(model)


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("tasks", [*combinations(VILT_CONFIGS), {"mlm": 1.0, "mpp": 0.5, "vqa": 0.5}], ids=label)
def test_vilt(tasks: Tasks, masking: str) -> None:
    config = vilt_small.config_of()
    config["loss_names"] = {**dict.fromkeys(config["loss_names"], 0), **tasks}
    model = as_in_a_run(stirred(vilt_small.ViLTransformerSS(config, vilt_small.transformer_of(config))))
    batch = vilt_small.batch_of(**{"lengths": LENGTHS, **MASKINGS[masking]}, false_texts=2)
    assert without_gradient(model, answered(batch, tasks)) == told(model)


def in_training(kit: Kit, preset: str) -> Any:
    model = kit.epic_model(preset)
    model.epic.steps_per_epoch = lambda _: 1  # no Trainer is there
    return model.train()


@pytest.mark.parametrize("masking", MASKINGS)
@every(*VARIANTS)
def test_every_variant_of_epic(kit: Kit, preset: str, masking: str) -> None:
    model = in_training(kit, preset)
    batch = kit.batch_of(**{"lengths": LENGTHS, **MASKINGS[masking]})
    assert without_gradient(model, batch) == told(model)


@pytest.mark.parametrize("kit", KITS.values(), ids=KITS)
def test_a_trained_language_model_of_another_family_makes_all_unknown(kit: Kit) -> None:
    for preset, known in (("epic", False), ("lm_fixed", True)):
        model = in_training(kit, preset)
        model.epic.generator.language_model.config = SimpleNamespace(model_type="xlm")
        assert (unused_parameters(model) is not None) is known


def test_a_model_that_tells_nothing() -> None:
    assert unused_parameters(nn.Linear(2, 2)) is None


def test_each_module_names_its_own() -> None:
    class Known(nn.Module):
        def __init__(self, *parts: nn.Module) -> None:
            super().__init__()
            self.own, self.parts = nn.Parameter(torch.zeros(())), nn.ModuleList(parts)

        def unused_parameters(self) -> list[str]:
            return ["own"]

    assert unused_parameters(Known(nn.Linear(1, 1), Known())) == {"own", "parts.1.own"}
