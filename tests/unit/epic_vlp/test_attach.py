"""EPIC attached to a student: whose teacher it gets, and what is refused. On METER, and on what differs without one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from epic_common.config import EpicConfig
from epic_common.saliency import saliency_scores
from epic_vlp.attach import attach_epic
from epic_vlp.frozen_teacher import load_teacher
from meter.baseline import BASELINE as METER
from meter.modules.meter_module import METERTransformerSS
from tests.unit.meter.small import saved_teacher, small_run
from vlp.checkpoint.convert import convert
from vlp.data.tokenizers import load_tokenizer


def loaders(folder: Path) -> Any:
    """What is read of a data module when the teacher comes from no cache."""
    return SimpleNamespace(tokenizer=load_tokenizer(folder), collate=SimpleNamespace(plans=[]))


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


@torch.no_grad()
def test_a_teacher_answers_from_the_layer_that_is_asked_for(tmp_path: Path) -> None:
    config = small_run(tmp_path, teacher_path=str(saved_teacher(tmp_path)))
    ids = torch.arange(10, 22).view(2, 6)
    batch = {"text_ids": ids, "text_masks": torch.ones_like(ids), "image": [torch.randn(2, 3, 64, 64)]}
    for layer in (-1, -2):
        settings = EpicConfig(enabled=True, saliency_layer=layer)
        teacher = load_teacher(METER, config, settings, load_tokenizer(tmp_path))
        expected = saliency_scores(*teacher.model.query_key(batch, layer))
        assert torch.equal(teacher.saliency(batch), expected) and expected.unique().numel() > 6


@pytest.mark.parametrize("variant", [{}, {"replacement": "vlm"}])
def test_a_teacher_has_the_mlm_head_only_where_it_proposes_words(variant: dict[str, Any], tmp_path: Path) -> None:
    config = small_run(tmp_path, teacher_path=str(saved_teacher(tmp_path)))
    teacher = load_teacher(METER, config, EpicConfig(enabled=True, **variant), load_tokenizer(tmp_path))
    assert hasattr(teacher.module, "mlm_score") == bool(variant)


@pytest.mark.parametrize("said_by", ["tensors", "config", "nothing"])
def test_a_teacher_that_is_itself_of_epic_is_told(
    said_by: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = saved_teacher(tmp_path)
    content = torch.load(saved, weights_only=True)
    if said_by == "tensors":
        content["state_dict"]["epic.rtd_head.weight"] = torch.zeros(1, 4)
    # An export has EPIC's tensors left out.
    content["hyper_parameters"]["config"]["epic"] = EpicConfig(enabled=said_by == "config").to_dict()
    torch.save(content, saved)
    config = small_run(tmp_path, teacher_path=str(saved))
    load_teacher(METER, config, EpicConfig(enabled=True), load_tokenizer(tmp_path))
    notice = f"[teacher] {saved} was itself trained with EPIC; the paper's teacher is pre-trained without"
    assert [line for line in caplog.messages if line.startswith("[teacher]")] == [notice] * (said_by != "nothing")


def test_nothing_is_attached_when_epic_is_off(tmp_path: Path) -> None:
    config = small_run(tmp_path, epic={"enabled": False}, teacher_path="nowhere.ckpt")
    model = METERTransformerSS(config)
    attach_epic(METER, model, loaders(tmp_path), rank=0)
    assert model.epic is None


def test_a_runs_seed_and_the_rank_decide_what_is_drawn(tmp_path: Path) -> None:
    config = small_run(tmp_path, epic={"enabled": True, "masking": "uniform", "replacement": "uniform"})
    drawn, ids = [], torch.full((4, 20), 10)
    for seed, rank in ((0, 0), (0, 1), (1, 0), (0, 0)):
        model = METERTransformerSS({**config, "seed": seed})
        attach_epic(METER, model, loaders(tmp_path), rank)
        drawn.append(model.epic.corrupt(ids, torch.ones_like(ids), scores=None).input_ids.tolist())
    assert drawn[0] == drawn[3] and drawn[0] not in drawn[1:3] and drawn[1] != drawn[2]
