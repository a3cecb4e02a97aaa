"""EPIC in patched checkouts of METER and ViLT, on stand-ins, against our own EPIC with the same weights."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import epic_meter
import epic_support
import epic_vilt
import pytest
import torch
from torch import Tensor, nn

from epic_common.config import PRESETS, WITHOUT_TEACHER, EpicConfig
from epic_common.saliency import saliency_scores
from epic_common.teacher import SasSnapshot, Teacher
from meter.modules.epic_meter import MeterTeacher
from tests.unit.epic_vlp.kits import METER_KIT, VILT_KIT, Kit
from tests.unit.meter import small as meter_small
from tests.unit.patches_official.conftest import SUPPORT
from tests.unit.patches_official.fakes import FakeMeter, FakeVilt, steps
from tests.unit.patches_official.text_encoders import BERT, ROBERTA, text_encoder
from tests.unit.small_parts import Batch, same_tensors, stirred
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
VARIANTS = [
    *((name, preset) for name in ("meter", "vilt") for preset in [*PRESETS, "surprise"] if preset != "vanilla"),
    *(("meter_swin", preset) for preset in ("epic", "lm_cond")),
]
VARIANTS.remove(("vilt", "lm_cond"))  # it encodes no image before the text joins it


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


def epic_losses(outputs: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in outputs.items() if name.startswith("epic_")}


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


# A run ---------------------------------------------------------------------------------------------------


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
