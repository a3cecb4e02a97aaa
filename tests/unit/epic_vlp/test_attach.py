"""EPIC attached to a student: whose teacher it gets, and what is refused. On METER, and on what differs without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from epic_common.config import EpicConfig
from epic_vlp.attach import attach_epic
from epic_vlp.extension import EpicExtension
from epic_vlp.frozen_teacher import load_teacher
from meter.baseline import BASELINE as METER
from meter.modules.checkpoints import LAYOUT
from meter.modules.meter_module import METERTransformerSS
from tests.unit.meter.small import saved_teacher, small_run
from vlp.checkpoint.convert import convert
from vlp.checkpoint.weights import WeightsError
from vlp.data.tokenizers import load_tokenizer


def loaders(folder: Path) -> Any:
    """What is read of a data module when the teacher comes from no cache."""
    return SimpleNamespace(tokenizer=load_tokenizer(folder))


@pytest.mark.parametrize("form", ["ckpt", "safetensors"])
def test_a_teacher_is_built_from_its_own_config(form: str, tmp_path: Path) -> None:
    saved = saved_teacher(tmp_path, num_top_layer=4, hidden_size=64)
    path = saved.with_suffix(f".{form}")
    if form == "safetensors":
        convert(saved, path)
    config = small_run(tmp_path, teacher_path=str(path), image_size=96)
    before = torch.get_rng_state()
    teacher = load_teacher(METER, config, EpicConfig(enabled=True), load_tokenizer(tmp_path))
    assert torch.equal(torch.get_rng_state(), before)  # the student's draws do not depend on it
    module: Any = teacher.module
    assert (module.config["num_top_layer"], module.config["hidden_size"], module.config["image_size"]) == (4, 64, 96)
    state = torch.load(saved, weights_only=True)["state_dict"]
    assert torch.equal(
        module.state_dict()["cross_modal_text_layers.3.output.dense.weight"],
        state["cross_modal_text_layers.3.output.dense.weight"],
    )
    assert not module.training and not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("variant", [{}, {"replacement": "vlm"}])
def test_a_teacher_has_the_mlm_head_only_where_it_proposes_words(variant: dict[str, Any], tmp_path: Path) -> None:
    config = small_run(tmp_path, teacher_path=str(saved_teacher(tmp_path)))
    teacher = load_teacher(METER, config, EpicConfig(enabled=True, **variant), load_tokenizer(tmp_path))
    assert hasattr(teacher.module, "mlm_score") == bool(variant)


def test_teachers_that_do_not_serve(tmp_path: Path) -> None:
    path = saved_teacher(tmp_path, num_top_layer=2)
    config = small_run(tmp_path, teacher_path=str(path))
    tokenizer = load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"teacher\.ckpt has 2 fusion layers, epic\.saliency_layer=-3 needs more"):
        load_teacher(METER, config, EpicConfig(enabled=True, saliency_layer=-3), tokenizer)
    with pytest.raises(WeightsError, match=r"nowhere\.ckpt: no such file"):
        load_teacher(METER, {**config, "teacher_path": "nowhere.ckpt"}, EpicConfig(enabled=True), tokenizer)
    vilt = {name: torch.ones(2) for name in ("text_embeddings.LayerNorm.bias", "transformer.blocks.0.norm1.bias")}
    content = {"state_dict": vilt, "hyper_parameters": {"config": {"vit": "vit_base_patch32_384"}}}
    torch.save(content, tmp_path / "vilt.ckpt")
    with pytest.raises(WeightsError, match=r"vilt\.ckpt: its keys are those of ViLT, not of METER"):
        load_teacher(METER, {**config, "teacher_path": tmp_path / "vilt.ckpt"}, EpicConfig(enabled=True), tokenizer)


def test_no_teacher_where_one_is_needed(tmp_path: Path) -> None:
    config = small_run(tmp_path)
    model = METERTransformerSS(config)
    with pytest.raises(ValueError, match=r"teacher_path must be given: the checkpoint of a METER pre-trained without"):
        attach_epic(METER, model, loaders(tmp_path), rank=0)
    assert model.epic is None


def test_nothing_is_attached_when_epic_is_off(tmp_path: Path) -> None:
    config = small_run(tmp_path, epic={"enabled": False}, teacher_path="nowhere.ckpt")
    model = METERTransformerSS(config)
    attach_epic(METER, model, loaders(tmp_path), rank=0)
    assert model.epic is None


def test_fields_of_x_vlm_are_refused(tmp_path: Path) -> None:
    config = small_run(tmp_path, epic={"on_regions": True})
    with pytest.raises(ValueError, match=r"epic\.on_regions=True is not possible with METER"):
        attach_epic(METER, METERTransformerSS(config), loaders(tmp_path), rank=0)


def test_a_baseline_is_called_by_its_name(tmp_path: Path) -> None:
    """METER under another name and without an image encoder, as ViLT has none."""
    path = saved_teacher(tmp_path)
    other = replace(
        METER,
        layout=replace(LAYOUT, title="ViLT", recognised_by=("text_embeddings.",)),
        extension=replace(cast(EpicExtension, METER.extension), image_encoder=False),
    )
    for changes, message in (
        ({"epic": {"enabled": True, "image_conditioned": True}}, r"image_conditioned=True is not possible with ViLT"),
        ({}, r"teacher_path must be given: the checkpoint of a ViLT pre-trained without EPIC"),
        ({"teacher_path": str(path)}, r"teacher\.ckpt: its keys are those of METER, not of ViLT"),
    ):
        model = METERTransformerSS(small_run(tmp_path, **changes))
        with pytest.raises((ValueError, WeightsError), match=message):
            attach_epic(other, model, loaders(tmp_path), rank=0)
        assert model.epic is None
