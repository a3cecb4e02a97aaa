"""Patched stand-ins of METER and ViLT, and our own EPIC on the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import epic_meter
import epic_vilt
import pytest
import torch
from torch import Tensor

from epic_common.config import PRESETS, WITHOUT_TEACHER
from epic_common.teacher import SasSnapshot, Teacher
from meter.modules.epic_meter import MeterTeacher
from tests.unit.epic_vlp.kits import METER_KIT, VILT_KIT, Kit
from tests.unit.meter import small as meter_small
from tests.unit.patches_official.fakes import FakeMeter, FakeVilt
from tests.unit.patches_official.text_encoders import BERT, ROBERTA, text_encoder
from tests.unit.small_parts import Batch, stirred
from tests.unit.vilt import small as vilt_small
from vilt.modules.epic_vilt import ViltTeacher
from vlp.nn.packed_text import encode_packed


@dataclass(frozen=True)
class Fake:
    """A baseline's stand-in beside our own model."""

    kit: Kit
    support: Any
    model: type[Any]
    config_of: Callable[..., dict[str, Any]]
    own_teacher: Callable[..., Any]  # config keys -> ours with an MLM head
    own_student: Callable[..., Any]
    batch_of: Callable[..., Batch]
    family: str
    specials: dict[str, str]
    layers: Callable[[Any], Any]


def _meter(vision: str) -> Fake:
    size = meter_small.IMAGE_SIZE[vision]
    vit = "ViT-B/32" if vision == "clip" else "swin_base_patch4_window7_224_in22k"
    return Fake(
        METER_KIT,
        epic_meter,
        FakeMeter,
        lambda **changes: meter_small.config_of(vision, fake_vision=vision, vit=vit, **changes),
        partial(meter_small.meter, vision, ("mlm",), MeterTeacher),
        partial(meter_small.meter, vision),
        partial(meter_small.batch_of, image_size=size),
        "roberta",
        ROBERTA,
        lambda model: model.cross_modal_image_layers,
    )


FAKES = {
    "meter": _meter("clip"),
    "meter_swin": _meter("swin"),
    "vilt": Fake(
        VILT_KIT,
        epic_vilt,
        FakeVilt,
        partial(vilt_small.config_of, max_image_len=-1),
        partial(vilt_small.vilt, ("mlm",), ViltTeacher),
        vilt_small.vilt,
        partial(vilt_small.batch_of, tell_sizes=False, sizes=[(3, 4), (2, 3), (3, 1)]),
        "bert",
        BERT,
        lambda model: model.transformer.blocks,
    ),
}
every = pytest.mark.parametrize("name", ["meter", "vilt"])  # a Swin differs in its query and its image feature alone


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """stand-in -> a folder with a text encoder (``text``), ``student.ckpt`` and ``teacher.ckpt``."""
    folder, made = tmp_path_factory.mktemp("files"), set[str]()

    def of(name: str) -> Path:
        fake, own_folder = FAKES[name], folder / name
        if name not in made:
            made.add(name)
            text_encoder(own_folder / "text", fake.family, fake.specials)
            vanilla = fake.model(fake.config_of())
            torch.save({"state_dict": stirred(vanilla).state_dict()}, own_folder / "student.ckpt")
            torch.save({"state_dict": stirred(vanilla).state_dict()}, own_folder / "teacher.ckpt")
        return own_folder

    return of


@pytest.fixture
def new(files: Callable[[str], Path]) -> Callable[..., Any]:
    """(stand-in, preset, further keys, further epic.* keys) -> a patched model; student and teacher are stirred."""

    def build(name: str, preset: str = "epic", keys: dict[str, Any] | None = None, **epic: Any) -> Any:
        fake, folder = FAKES[name], files(name)
        text = str(folder / "text")
        variant = {**PRESETS, **WITHOUT_TEACHER}[preset]
        settings = {**variant, **({"generator": text} if preset == "lm_trained" else {}), **epic}
        paths = {"load_path": str(folder / "student.ckpt"), "teacher_path": str(folder / "teacher.ckpt")}
        own_keys = {"epic": {**fake.support.default_keys(), **settings}, "tokenizer": text, **paths, **(keys or {})}
        return fake.model({**fake.config_of(), **own_keys})

    return build


def teacher_of(model: Any) -> Any:
    frozen = model.epic.teacher or model.epic.snapshot.frozen
    return frozen.model


def own(fake: Fake, patched: Any) -> Any:
    """Our model with our EPIC, all weights those of ``patched``."""
    settings, made = patched.epic.config, fake.own_student()
    parts = fake.kit.parts
    held = None
    if settings.needs_teacher:
        mine = fake.own_teacher()
        mine.load_state_dict(teacher_of(patched).state_dict(), strict=False)
        held = Teacher(mine, settings.saliency_layer)
    generator = copy.deepcopy(patched.epic.generator)
    if hasattr(generator, "encode") and not settings.image_conditioned:
        generator.encode = encode_packed
    made.epic = parts.epic(
        settings,
        patched.epic.vocabulary,
        fake.kit.width,
        generator,
        teacher=held if settings.scores_from_teacher else None,
        snapshot=SasSnapshot(held) if settings.replacement == "vlm" and held is not None else None,
    )
    made.load_state_dict(patched.state_dict())
    return made


def epic_losses(outputs: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in outputs.items() if name.startswith("epic_")}
