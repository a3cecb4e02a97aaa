"""What the configurations of METER and ViLT have in common: EPIC's named configs, the 16M setting, and refusals."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from epic_common.config import PRESETS, EpicConfig
from tests.unit.configs import resolve
from vlp.baseline import REGISTRY, get_baseline
from vlp.sacred_dialect.baseline import SacredBaseline


class Case(NamedTuple):
    baseline: SacredBaseline

    @property
    def pretraining(self) -> str:
        return self.baseline.pretraining[0]

    def resolved(self, *named: str, **updates: Any) -> dict[str, Any]:
        return resolve(self.baseline.experiment, named, **updates)


@pytest.fixture(params=REGISTRY)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(get_baseline(request.param))


def test_the_16m_setting_adds_cc12m(case: Case) -> None:
    config = case.resolved(case.pretraining, "data_16m")
    assert config["datasets"] == ["coco", "vg", "sbu", "gcc", "cc12m"]


@pytest.mark.parametrize("name", PRESETS)
def test_every_variant_of_the_paper_is_a_named_config(name: str, case: Case) -> None:
    named = [] if name == "vanilla" else ["epic" if name == "epic" else f"epic_{name}"]
    assert EpicConfig.from_dict(case.resolved(*named)["epic"]) == EpicConfig.from_dict(PRESETS[name])


def test_one_field_of_epic_can_be_updated_alone(case: Case) -> None:
    epic = case.resolved("epic", epic={"mask_ratio": 0.5})["epic"]
    assert EpicConfig.from_dict(epic) == EpicConfig(enabled=True, mask_ratio=0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_root": ""}, "data_root must be given"),
        ({"image_size": "abc"}, r"image_size='abc': expected a number, like \d+"),
        ({"loss_names": {"vqa": 1}}, r"loss_names\.vqa needs vqa data, which datasets=\['coco', 'vg'"),
        ({"datasets": ["coco", "nlvr2"]}, r"loss_names\.itm needs caption data, which datasets=\['nlvr2'\] is not"),
        ({"loss_names": {"irtr": 1}}, "draw_false_text must be at least 1"),
        ({"draw_false_image": 0}, "draw_false_image must be at least 1"),
        ({"get_recall_metric": True}, "get_recall_metric needs the retrieval task"),
        ({"eval_split": "train"}, "eval_split='train': choose test or val"),
        ({"epic": {"mask_ratio": "high"}}, r"epic\.mask_ratio='high'"),
    ],
)
def test_what_cannot_run_is_refused_by_its_key(changes: dict[str, Any], message: str, case: Case) -> None:
    with pytest.raises(ValueError, match=message):
        case.baseline.check(case.resolved(case.pretraining, **{"data_root": "arrow", **changes}))


def test_a_baseline_need_not_have_every_official_task(case: Case) -> None:
    config = case.resolved(case.pretraining, data_root="arrow")
    case.baseline.check({**config, "loss_names": {"mlm": 1}})
