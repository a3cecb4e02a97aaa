"""Compiled layers give eager losses and gradients, keep their names, and take sentences of any length."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch._dynamo import register_backend

from epic_common.generator import build_generator
from epic_common.teacher import Teacher
from meter.modules.encoders import Encoders
from meter.modules.epic_meter import MeterEpic, MeterTeacher
from meter.modules.meter_module import METERTransformerSS
from tests.unit.compiled import Counting, check_equal
from tests.unit.epic.tiny import VOCABULARY, language_model
from tests.unit.epic.tiny import config_of as settings_of
from tests.unit.meter.small import (
    CLIP,
    IMAGE_SIZE,
    SWIN,
    WIDTH,
    batch_of,
    config_of,
    stirred,
    text_tower,
    vision_tower,
)
from vlp.nn.packed_text import encode_packed
from vlp.training.compile import check_backend, compile_layers

LENGTHS = [[6, 4, 7], [9, 5, 4], [4, 4, 11], [3, 8, 8]]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def model_of(choice: bool | str, vision: str = "clip", epic: bool = False, **changes: Any) -> METERTransformerSS:
    """A student without dropout, always of the same weights; in training mode, with EPIC in eval mode."""
    torch.manual_seed(5)
    config = config_of(vision, **{"compile": choice, "num_top_layer": 2, **changes})
    model = stirred(METERTransformerSS(config, Encoders(vision_tower(vision), text_tower())))
    if epic:
        teacher: Any = stirred(MeterTeacher(config, Encoders(vision_tower(vision), text_tower())))
        held = Teacher(teacher, settings_of("epic").saliency_layer)
        generator = build_generator(settings_of("epic"), VOCABULARY, language_model(), encode=encode_packed)
        model.epic = MeterEpic(settings_of("epic"), VOCABULARY, WIDTH, generator, teacher=held)
        compile_layers(model.epic, choice)
        return model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, DropPath):
            module.drop_prob = 0.0
    return model.train()


def test_no_length_compiles_anew() -> None:
    counting = Counting()
    register_backend(counting, name="counting")
    compiled, eager = model_of("counting", tasks=("mlm",)), model_of(False, tasks=("mlm",))
    counts = []
    for number, lengths in enumerate(LENGTHS):
        check_equal(compiled, eager, batch_of(lengths, seed=number))
        counts.append(counting.graphs)
    assert counts[0] > 3 and counts[1:] == counts[:1] * 3


def test_a_compiled_model_keeps_its_names() -> None:
    compiled, eager = model_of("aot_eager", epic=True), model_of(False, epic=True)
    assert list(compiled.state_dict()) == list(eager.state_dict())
    assert list(map(str, compiled.official_named_parameters())) == list(map(str, eager.official_named_parameters()))


@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_every_layer_of_student_generator_and_teacher_is_compiled(vision: str) -> None:
    compiled = model_of("aot_eager", vision, epic=True)
    parts = {
        "tower": compiled.vit_model,
        "text": compiled.text_transformer,
        "fusion": nn.ModuleList([compiled.cross_modal_text_layers, compiled.cross_modal_image_layers]),
        "generator": compiled.epic.generator,
        "teacher": compiled.epic.teacher.module,
    }
    blocks = sum(SWIN.depths) if vision == "swin" else CLIP.layers - 1
    expected = {"tower": blocks, "text": 1, "fusion": 4, "generator": 2, "teacher": blocks + 1 + 4}
    for name, part in parts.items():
        layers = [module for module in part.modules() if module._compiled_call_impl is not None]
        assert len(layers) == expected[name], name
    assert all(module._compiled_call_impl is None for module in model_of(False, vision, epic=True).modules())


@pytest.mark.parametrize(("choice", "valid"), [(False, True), (True, True), ("aot_eager", True), ("fastest", False)])
def test_backends_are_checked(choice: bool | str, valid: bool) -> None:
    if valid:
        return check_backend(choice)
    with pytest.raises(ValueError, match=r"compile='fastest': choose True, False or a backend of torch.compile: .*ind"):
        check_backend(choice)


@pytest.mark.slow
@pytest.mark.parametrize(("vision", "epic"), [("clip", False), ("clip", True), ("swin", False)])
def test_a_compiled_step_equals_an_eager_one(vision: str, epic: bool) -> None:
    compiled, eager = (model_of(choice, vision, epic, num_top_layer=3) for choice in ("aot_eager", False))
    for number, lengths in enumerate(LENGTHS):
        check_equal(compiled, eager, batch_of(lengths, image_size=IMAGE_SIZE[vision], seed=number))


@pytest.mark.slow
def test_recomputed_activations_can_be_compiled() -> None:
    compiled, eager = (model_of(choice, gradient_checkpointing=True) for choice in ("aot_eager", False))
    for number, lengths in enumerate(LENGTHS):
        check_equal(compiled, eager, batch_of(lengths, seed=number))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="inductor needs a C++ compiler")
def test_inductor_gives_eager_losses_and_gradients() -> None:
    compiled, eager = (model_of(choice, epic=True) for choice in (True, False))
    for number, lengths in enumerate(LENGTHS):
        check_equal(compiled, eager, batch_of(lengths, seed=number))
