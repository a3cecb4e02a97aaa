"""METER's official configuration (docs/official/meter.md §2), and which of its tasks can run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meter.baseline import BASELINE
from meter.config import ex
from tests.parity.fixture import FIXTURES
from tests.unit.configs import OURS
from tests.unit.meter.small import resolved
from vlp.sacred_dialect.config import base_config

OFFICIAL = json.loads((FIXTURES / "meter" / "resolved_configs.json").read_text(encoding="utf-8"))
LINES = OFFICIAL["resolved"]
BASE: dict[str, Any] = base_config(ex)


def test_the_base_config_holds_every_official_key_with_its_value_and_no_other() -> None:
    assert {key: BASE[key] for key in OFFICIAL["base"]} == OFFICIAL["base"]
    assert list(BASE["loss_names"]) == list(OFFICIAL["base"]["loss_names"])
    assert BASE.keys() == {*OFFICIAL["base"], *OURS, "reorder_attention"}
    assert not BASE["epic"]["enabled"]


@pytest.mark.parametrize("line", LINES, ids=lambda line: "+".join([*line["named_configs"], *line["updates"]]))
def test_official_command_lines_resolve_as_officially(line: dict[str, Any]) -> None:
    config = resolved(line["named_configs"], **line["updates"])
    assert config == {**BASE, **line["changed"]}


def test_there_are_fifteen_official_command_lines() -> None:
    assert len(LINES) == 15


def test_a_later_named_config_overrides_an_earlier_one_and_updates_override_both() -> None:
    assert resolved(["clip16", "task_finetune_vqa_clip_bert"])["vit"] == "ViT-B/32"
    assert resolved(["task_finetune_vqa_clip_bert", "clip16"])["image_size"] == 224
    assert resolved(["task_finetune_vqa_clip_bert", "clip16"], image_size=576)["image_size"] == 576


def test_a_task_that_the_official_code_declares_and_does_not_build_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss_names\.vcr: only mlm, itm, irtr, vqa, nlvr2, snli can"):
        BASELINE.check(
            resolved(["task_mlm_itm_clip_bert"], data_root="arrow", per_gpu_batchsize=8, loss_names={"vcr": 1})
        )


@pytest.mark.parametrize("named", ["task_mlm_itm_clip_bert", "task_finetune_irtr_f30k_clip_bert"])
def test_official_configs_of_built_tasks_are_accepted(named: str) -> None:
    BASELINE.check(resolved([named, "clip16", "text_roberta"], data_root="arrow", per_gpu_batchsize=8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vit": "ViT-B/61"}, "vit='ViT-B/61': expected 'ViT-B/32', 'ViT-B/16', .*; did you mean 'ViT-B/16'"),
        ({"input_image_embed_size": 64}, "vit=ViT-B/16 gives 768 channels, input_image_embed_size=64"),
        ({"image_size": 72}, r"image_size=72 is not a multiple of the patch size 16 \(vit=ViT-B/16\)"),
        ({"vit": "swin_base_patch4_window7_224_in22k", "input_image_embed_size": 1024, "image_size": 100}, "Swin's 32"),
        ({"train_transform_keys": ["pixelbert"]}, r"train_transform_keys=\['pixelbert'\]: expected a list"),
    ],
)
def test_sizes_and_views_that_contradict_the_image_encoder(changes: dict[str, Any], message: str) -> None:
    config = resolved(["task_mlm_itm_clip_bert", "clip16"], data_root="arrow", per_gpu_batchsize=8)
    BASELINE.check(config)
    with pytest.raises(ValueError, match=message):
        BASELINE.check({**config, **changes})
