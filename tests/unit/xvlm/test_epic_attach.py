"""EPIC attached to an X-VLM: whose teacher it gets, its optimiser groups, and what is refused by its key."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from epic_common.config import RegionEpicConfig
from epic_common.teacher import Teacher
from epic_vlp.attach import attach_epic
from epic_vlp.check import check_epic
from epic_vlp.notices import odd_settings
from tests.tokenizers import save_text_files
from tests.unit.albef.epic import SIZES as ALBEF_SIZES
from tests.unit.albef.small import pretraining as albef
from tests.unit.small_parts import stirred
from tests.unit.xvlm.epic import SIZES
from tests.unit.xvlm.small import IMAGE, config_of, pretraining_batch
from vlp.checkpoint.weights import WeightsError
from vlp.data.tokenizers import load_tokenizer
from xvlm.baseline import BASELINE
from xvlm.models.epic_xvlm import XvlmEpic
from xvlm.models.model_pretrain import XVLM


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder with a tokenizer and a masked language model."""
    save_text_files(tmp_path / "text", 16, 32)
    return tmp_path / "text"


def run_of(text: Path, epic: dict[str, Any] | None = None, sizes: dict[str, Any] | None = None, **changes: Any) -> Any:
    """The config of a run with EPIC; ``sizes`` are of its text and fusion layers."""
    of_text = {**SIZES["text_config"], "vocab_size": len(load_tokenizer(text)), **(sizes or {})}
    settings = RegionEpicConfig.from_dict({"enabled": True, **(epic or {})}).to_dict()
    ours = {"epic": settings, "text_encoder": str(text), "teacher_path": "", "saliency_cache": "", "seed": 0}
    return config_of(**{"text_config": of_text, **ours, **changes})


def saved(text: Path, official: bool = False, **changes: Any) -> str:
    """A model_state_step_XX.th; an official one has the YAML's values, so the names of its JSON files alone."""
    config = run_of(text, **changes)
    path = text.parent / "model_state_step_199999.th"
    names = {"text_config": "configs/config_bert.json", "vision_config": "configs/config_swinB_224.json"}
    said = {**names, "image_res": 224, "embed_dim": 256} if official else config
    torch.save({"model": stirred(XVLM(config)).state_dict(), "config": said}, path)
    return str(path)


def attached(config: dict[str, Any]) -> tuple[Any, list[Any], list[Any]]:
    """The student, and the plans of its loaders of images and of regions."""
    check_epic(BASELINE, config)
    images, regions = list[Any](), list[Any]()
    model = XVLM(config).eval()
    loaders = SimpleNamespace(
        tokenizer=load_tokenizer(config["text_encoder"]),
        collate=SimpleNamespace(plans=images),
        region_collate=SimpleNamespace(plans=regions),
        sets={},
    )
    attach_epic(BASELINE, model, loaders, 0)
    return model, images, regions


@pytest.mark.parametrize("official", [False, True])
def test_a_teacher_is_the_two_encoders_of_a_checkpoint(official: bool, text: Path) -> None:
    """Those of its own file; a file of the official code names its configs' files alone."""
    sizes = {} if official else {"sizes": {"num_hidden_layers": 7}}
    path = saved(text, official, **sizes)
    model, images, regions = attached(run_of(text, teacher_path=path))
    assert isinstance(model.epic, XvlmEpic) and isinstance(model.epic.teacher, Teacher)
    assert (len(images), len(regions)) == (1, 0)
    teacher: Any = model.epic.teacher.module
    assert len(teacher.text_encoder.bert.layers) == (5 if official else 7)
    assert {name.split(".")[0] for name in teacher.state_dict()} == {"vision_encoder", "text_encoder"}
    weights = torch.load(path, weights_only=True)["model"]
    for name in (
        "text_encoder.bert.encoder.layer.3.crossattention.self.query.weight",
        "vision_encoder.layers.0.downsample.reduction.weight",
    ):
        assert torch.equal(teacher.state_dict()[name], weights[name])
    batch = {**pretraining_batch(), "text_ids": torch.arange(10, 37).view(3, 9)}
    assert batch["image"].shape[-1] == IMAGE
    assert model.epic.teacher.saliency(batch).shape == (3, 9)


def test_region_rows_are_planned_where_they_take_part(text: Path) -> None:
    path = saved(text)
    _, images, regions = attached(run_of(text, {"on_regions": True}, teacher_path=path))
    assert (len(images), len(regions)) == (1, 1) and images[0] is regions[0]


@pytest.mark.parametrize(("mult", "rate"), [(0.0, 2e-4), (5.0, 5e-4)])
def test_head_and_generator_learn_in_groups_of_their_own(mult: float, rate: float, text: Path) -> None:
    """docs/official/xvlm.md §6, §10.3: the head like X-VLM's heads, at twice the rate; decay by X-VLM's rule."""
    vanilla = XVLM(run_of(text)).parameter_groups()
    settings = {"masking": "uniform", "itc_head_lr_mult": mult, "generator_lr_mult": 0.5}
    model, _, _ = attached(run_of(text, settings))
    groups = model.parameter_groups()
    names = {id(p): name for name, p in model.named_parameters()}
    assert [len(group["params"]) for group in groups[:4]] == [len(group["params"]) for group in vanilla]
    own = {
        ("".join({names[id(p)].split(".")[1] for p in group["params"]}), group["weight_decay"]): group["lr"]
        for group in groups[4:]
    }
    assert len(own) == len(groups) - 4
    expected = {("head", 0.01): rate, ("head", 0.0): rate, ("generator", 0.01): 5e-5, ("generator", 0.0): 5e-5}
    assert own == pytest.approx(expected)
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


def refused(message: str, config: dict[str, Any]) -> None:
    with pytest.raises((ValueError, WeightsError), match=message):
        check_epic(BASELINE, config)


def test_what_is_wrong_is_named(text: Path) -> None:
    path = saved(text)
    refused(r"teacher_path must be given: the checkpoint of an X-VLM pre-trained without EPIC", run_of(text))
    refused(
        r"epic\.saliency_layer=3: the student has 3 fusion layers, -3 to 2",
        run_of(text, {"teacher": "momentum", "saliency_layer": 3}),
    )
    refused(
        r"epic\.saliency_layer=3: the teacher \S+ has 3 fusion layers, -3 to 2",
        run_of(text, {"saliency_layer": 3}, teacher_path=path),
    )
    refused(
        r"'vlm' fills .* has text_config\.num_hidden_layers=5 \(here 6\)$",
        run_of(text, {"replacement": "vlm"}, {"num_hidden_layers": 6}, teacher_path=path),
    )
    other = text.parent / "albef.pth"
    torch.save({"model": albef(**ALBEF_SIZES).state_dict()}, other)
    refused(r"its keys are those of ALBEF, not of X-VLM", run_of(text, teacher_path=str(other)))
    refused(r"nowhere\.th: no such file", run_of(text, teacher_path="nowhere.th"))


def test_other_scripts_have_no_epic(text: Path) -> None:
    config = {key: value for key, value in run_of(text).items() if key not in ("epic", "teacher_path")}
    check_epic(BASELINE, config)
    assert list(odd_settings(BASELINE, config)) == []


def test_settings_without_epic_are_told(text: Path) -> None:
    config = run_of(text, {"enabled": False, "on_regions": True}, teacher_path="a.th")
    (line,) = odd_settings(BASELINE, config)
    assert line == (
        "EPIC is off, so epic.on_regions=True, teacher_path=a.th does nothing: a configuration configs/*_epic.yaml "
        "switches it on"
    )
