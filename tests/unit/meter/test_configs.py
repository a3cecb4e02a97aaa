"""The official configuration (SPEC §2), and what the launcher refuses before it builds anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from epic_common.config import PRESETS, EpicConfig
from meter.config import ex
from meter.train import check_config
from tests.parity.fixture import FIXTURES
from tests.unit.meter.small import resolved
from vlp.training.arrow_config import base_config

OFFICIAL = json.loads((FIXTURES / "meter" / "resolved_configs.json").read_text(encoding="utf-8"))
LINES = OFFICIAL["resolved"]
BASE: dict[str, Any] = base_config(ex)


def test_the_base_config_holds_every_official_key_with_its_value() -> None:
    assert {key: BASE[key] for key in OFFICIAL["base"]} == OFFICIAL["base"]
    assert list(BASE["loss_names"]) == list(OFFICIAL["base"]["loss_names"])
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


def test_the_16m_setting_adds_cc12m() -> None:
    assert resolved(["task_mlm_itm_clip_bert", "data_16m"])["datasets"] == ["coco", "vg", "sbu", "gcc", "cc12m"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_variant_of_the_paper_is_a_named_config(name: str) -> None:
    named = [] if name == "vanilla" else ["epic" if name == "epic" else f"epic_{name}"]
    assert EpicConfig.from_dict(resolved(named)["epic"]) == EpicConfig.from_dict(PRESETS[name])


def test_one_field_of_epic_can_be_updated_alone() -> None:
    epic = resolved(["epic"], epic={"mask_ratio": 0.5})["epic"]
    assert EpicConfig.from_dict(epic) == EpicConfig(enabled=True, mask_ratio=0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_root": ""}, "data_root must be given"),
        ({"image_size": "abc"}, "image_size='abc': expected a number, like 224"),
        ({"loss_names": {"vcr": 1}}, r"loss_names\.vcr: only mlm, itm, irtr, vqa, nlvr2, snli can"),
        ({"loss_names": {"vqa": 1}}, r"loss_names\.vqa needs vqa data, which datasets=\['coco', 'vg'"),
        ({"datasets": ["coco", "nlvr2"]}, r"loss_names\.itm needs caption data, which datasets=\['nlvr2'\] is not"),
        ({"loss_names": {"irtr": 1}}, "draw_false_text must be at least 1"),
        ({"draw_false_image": 0}, "draw_false_image must be at least 1"),
        ({"get_recall_metric": True}, "get_recall_metric needs the retrieval task"),
        ({"eval_split": "train"}, "eval_split='train': choose test or val"),
        ({"epic": {"mask_ratio": "high"}}, r"epic\.mask_ratio='high'"),
    ],
)
def test_what_cannot_run_is_refused_by_its_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(resolved(["task_mlm_itm_clip_bert"], **{"data_root": "arrow", **changes}))


@pytest.mark.parametrize(
    "named", [["task_mlm_itm_clip_bert"], ["task_finetune_irtr_f30k_clip_bert"], ["task_mlm_itm_clip_bert", "epic"]]
)
def test_official_configs_of_built_tasks_are_accepted(named: list[str]) -> None:
    check_config(resolved([*named, "clip16", "text_roberta"], data_root="arrow"))
