"""EPIC in patched checkouts of METER and ViLT, on stand-ins, against our own EPIC with the same weights."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import epic_support
import pytest
import torch
from torch import nn

from epic_common.config import PRESETS, EpicConfig
from epic_common.saliency import saliency_scores
from tests.unit.patches_official.conftest import SUPPORT
from tests.unit.patches_official.fakes import steps
from tests.unit.patches_official.sacred_models import FAKES, epic_losses, every, files, new, own, teacher_of
from tests.unit.small_parts import same_tensors

__all__ = ["files", "new"]  # fixtures

VARIANTS = [
    *((name, preset) for name in ("meter", "vilt") for preset in [*PRESETS, "surprise"] if preset != "vanilla"),
    *(("meter_swin", preset) for preset in ("epic", "lm_cond")),
]
VARIANTS.remove(("vilt", "lm_cond"))  # it encodes no image before the text joins it


# Eq. 8 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layer"), [*((name, -2) for name in FAKES), ("meter", -3), ("vilt", -1)])
def test_hooks_find_the_query_and_the_keys_of_our_own_teacher(new: Any, name: str, layer: int) -> None:
    fake, batch = FAKES[name], FAKES[name].batch_of([7, 4, 6], padded_to=9)
    teacher = teacher_of(new(name))
    mine = fake.own_teacher()
    mine.load_state_dict(teacher.state_dict(), strict=False)
    with torch.no_grad():
        got, wanted = (saliency_scores(*model.query_key(batch, layer)) for model in (teacher, mine))
    real = batch["text_masks"].bool()
    assert got.shape == wanted.shape and float(got[real].std()) > 0.01
    assert torch.allclose(got[real], wanted[real], atol=1e-5)


@every
def test_a_layer_that_does_not_exist_is_refused(new: Any, name: str) -> None:
    with pytest.raises(ValueError, match=r"epic.saliency_layer is -4; the model has 3"):
        new(name, saliency_layer=-4)


# The step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "preset"), VARIANTS)
def test_losses_and_gradients_are_those_of_our_own_epic(new: Any, name: str, preset: str) -> None:
    fake, batch = FAKES[name], FAKES[name].batch_of([7, 4, 6])
    patched = new(name, preset).eval()
    mine = own(fake, patched).eval()
    got = epic_losses(patched(batch))
    wanted = epic_losses(mine(batch, torch.tensor([1, 0, 0])))
    assert got.keys() == wanted.keys() and "epic_itc_loss" in got
    assert all(key.endswith("_loss") for key in got)
    for key in wanted:
        assert torch.allclose(got[key], wanted[key], atol=1e-5), key
    torch.stack([*got.values()]).sum().backward()
    torch.stack([*wanted.values()]).sum().backward()
    theirs = {key: p.grad for key, p in mine.named_parameters() if p.grad is not None}
    mine_too = {key: p.grad for key, p in patched.named_parameters() if p.grad is not None}
    assert mine_too.keys() >= theirs.keys() and "epic.head.beta.weight" in theirs
    for key, gradient in theirs.items():
        assert torch.allclose(mine_too[key], gradient, atol=1e-4 * (1 + float(gradient.abs().max()))), key


@every
def test_the_images_of_a_step_are_encoded_no_more_often_with_epic(new: Any, name: str) -> None:
    model, batch = new(name), FAKES[name].batch_of([7, 4, 6])
    calls: list[int] = []
    vision = model.transformer if name == "vilt" else model.vit_model
    patches = next(module for module in vision.modules() if isinstance(module, nn.Conv2d))
    patches.register_forward_hook(lambda *_: calls.append(1))
    steps(model, batch)
    alone = len(calls)
    model.epic.images.take(None)
    model(batch)
    assert alone == 2 and len(calls) == 2 * alone


@every
def test_draws_go_on_from_step_to_step_and_are_others_on_another_rank(new: Any, name: str) -> None:
    batch = FAKES[name].batch_of([7, 4, 6])
    model = new(name, generator_dropout=False).train()
    first, second = (model(batch)["epic_itc_loss"].item() for _ in range(2))
    again = new(name, generator_dropout=False).train()
    assert again(batch)["epic_itc_loss"].item() != second != first
    other = new(name, generator_dropout=False).train()
    other.epic._begin(rank=1)
    assert not torch.equal(other.epic._stream.on(torch.device("cpu")).get_state(), again.epic.rng_state())


# Off -----------------------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("absent", [False, True])
def test_off_is_what_it_was_to_the_bit(files: Any, name: str, absent: bool) -> None:
    fake, batch = FAKES[name], FAKES[name].batch_of([7, 4, 6])
    config = fake.config_of(tokenizer="nothing is loaded", load_path=str(files(name) / "student.ckpt"))
    config.pop("epic"), config.pop("teacher_path")
    if not absent:
        config |= {"epic": fake.support.default_keys(), "teacher_path": ""}
    torch.manual_seed(1)
    model = fake.model(config).eval()
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    vanilla = fake.model({**config, "epic": {}}).eval()
    assert torch.equal(state, torch.random.get_rng_state())
    assert same_tensors(model, vanilla) and not any("epic" in key for key in model.state_dict())
    outputs = steps(vanilla, batch)
    got = model(batch)
    assert got.keys() == outputs.keys() and all(torch.equal(got[key], outputs[key]) for key in outputs)
    checkpoint: dict[str, Any] = {}
    model.on_save_checkpoint(checkpoint)
    model.on_load_checkpoint({"epic": "of another run"})
    groups = [{"params": list(model.parameters()), "lr": 1.0}]
    fake.support.add_groups(model, groups)
    assert not checkpoint and len(groups) == 1


def test_off_imports_nothing_of_epic() -> None:
    code = """
import sys, epic_albef, epic_meter, epic_vilt, epic_xvlm
for support in (epic_albef, epic_meter, epic_vilt, epic_xvlm):
    support.attach(object(), {"epic": epic_meter.default_keys()})
    support.attach(object(), {})
for support in (epic_meter, epic_vilt):
    support.add_losses(object(), {}, {})
for support in (epic_albef, epic_xvlm):
    support.add_groups({})
assert "epic_common" not in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=SUPPORT, check=True)


def test_every_field_is_a_key() -> None:
    assert epic_support.default_keys() == EpicConfig().to_dict()


@every
def test_the_student_is_built_from_the_same_draws_with_epic_as_without(new: Any, name: str) -> None:
    torch.manual_seed(1)
    off, after = new(name, enabled=False), torch.random.get_rng_state()
    torch.manual_seed(1)
    model = new(name)
    assert torch.equal(torch.random.get_rng_state(), after)
    theirs = model.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in off.state_dict().items())
