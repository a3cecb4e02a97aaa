"""EPIC attached to an ALBEF: whose teacher it gets, its optimiser groups, and what is refused by its key."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from albef.baseline import BASELINE
from albef.models.epic_albef import AlbefEpic
from albef.models.model_pretrain import ALBEF
from epic_common.config import EpicConfig
from epic_common.teacher import Teacher
from epic_vlp.attach import attach_epic
from epic_vlp.check import check_epic
from epic_vlp.notices import odd_settings
from tests.tokenizers import save_text_files
from tests.unit.albef.epic import SIZES, batch_of
from tests.unit.albef.small import config_of
from tests.unit.meter.small import saved_teacher as saved_meter
from tests.unit.small_parts import stirred
from vlp.checkpoint.weights import WeightsError
from vlp.data.tokenizers import load_tokenizer


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder with a tokenizer and a masked language model."""
    save_text_files(tmp_path / "text", 16, 32)
    return tmp_path / "text"


def run_of(text: Path, epic: dict[str, Any] | None = None, bert: dict[str, Any] | None = None, **changes: Any) -> Any:
    """The config of a run with EPIC."""
    sizes = {**SIZES["bert_config"], "vocab_size": len(load_tokenizer(text)), **(bert or {})}
    settings = EpicConfig.from_dict({"enabled": True, **(epic or {})}).to_dict()
    ours = {"epic": settings, "text_encoder": str(text), "teacher_path": "", "saliency_cache": "", "seed": 0}
    optimizer = {"opt": "adamW", "lr": 1e-4, "weight_decay": 0.02}
    return config_of(**{"bert_config": sizes, "optimizer": optimizer, "alpha": 0.4, **ours, **changes})


def saved(text: Path, official: bool = False, **changes: Any) -> str:
    """A checkpoint_XX.pth; an official one has the YAML's values, so the name of the text's config alone."""
    config = run_of(text, **changes)
    path = text.parent / "checkpoint_29.pth"
    said = {"bert_config": "configs/config_bert.json", "image_res": 256, "embed_dim": 256} if official else config
    torch.save({"model": stirred(ALBEF(config)).state_dict(), "config": said, "epoch": 29}, path)
    return str(path)


def attached(config: dict[str, Any]) -> Any:
    """The student, and the plans of its loaders."""
    check_epic(BASELINE, config)
    plans = list[Any]()
    model = ALBEF(config).eval()
    loaders = SimpleNamespace(
        tokenizer=load_tokenizer(config["text_encoder"]), collate=SimpleNamespace(plans=plans), sets={}
    )
    attach_epic(BASELINE, model, loaders, 0)
    return model, plans


@pytest.mark.parametrize("official", [False, True])
def test_a_teacher_is_the_two_encoders_of_a_checkpoint(official: bool, text: Path) -> None:
    """Those of its own file, on the student's images; a file of the official code names its config's file alone."""
    bert = {} if official else {"bert": {"num_hidden_layers": 7}}
    path = saved(text, official, **bert)
    model, plans = attached(run_of(text, teacher_path=path, image_res=24))
    assert isinstance(model.epic, AlbefEpic) and isinstance(model.epic.teacher, Teacher) and len(plans) == 1
    teacher: Any = model.epic.teacher.module
    assert len(teacher.text_encoder.bert.layers) == (5 if official else 7)
    assert teacher.visual_encoder.pos_embed.shape[1] == 1 + 9
    assert {name.split(".")[0] for name in teacher.state_dict()} == {"visual_encoder", "text_encoder"}
    weights = torch.load(path, weights_only=True)["model"]
    name = "text_encoder.bert.encoder.layer.3.crossattention.self.query.weight"
    assert torch.equal(teacher.state_dict()[name], weights[name])
    ids = torch.arange(10, 37).view(3, 9)
    batch = {**batch_of(), "image": torch.randn(3, 3, 24, 24), "text_ids": ids}
    assert model.epic.teacher.saliency(batch).shape == (3, 9)


def test_the_momentum_teacher_needs_no_file(text: Path) -> None:
    model, _ = attached(run_of(text, {"teacher": "momentum"}))
    assert model.epic.teacher is None and model.epic.teacher_sha256 is None


@pytest.mark.parametrize(("mult", "rate"), [(0.0, 1e-4), (5.0, 5e-4)])
def test_head_and_generator_learn_in_groups_of_their_own(mult: float, rate: float, text: Path) -> None:
    vanilla = ALBEF(run_of(text)).parameter_groups()
    model, _ = attached(run_of(text, {"teacher": "momentum", "itc_head_lr_mult": mult, "generator_lr_mult": 0.5}))
    groups = model.parameter_groups()
    names = {id(p): name for name, p in model.named_parameters()}
    assert [len(group["params"]) for group in groups[:2]] == [len(group["params"]) for group in vanilla]
    own = [({names[id(p)].split(".")[1] for p in g["params"]}, g["weight_decay"], g["lr"]) for g in groups[2:]]
    head, generator = {"head"}, {"generator"}
    assert own == [(head, 0.0, rate), (head, 0.02, rate), (generator, 0.0, 5e-5), (generator, 0.02, 5e-5)]
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


def refused(message: str, config: dict[str, Any]) -> None:
    with pytest.raises((ValueError, WeightsError), match=message):
        check_epic(BASELINE, config)


def test_what_is_wrong_is_named(text: Path) -> None:
    path = saved(text)
    refused(r"teacher_path must be given: the checkpoint of an ALBEF pre-trained without EPIC", run_of(text))
    refused(
        r"saliency_cache: ALBEF sees another view of an image each time.*epic\.teacher=momentum is the cheap",
        run_of(text, saliency_cache="nowhere"),
    )
    refused(
        r"epic\.saliency_layer=3: the teacher \S+ has 3 fusion layers, -3 to 2",
        run_of(text, {"saliency_layer": 3}, teacher_path=path),
    )
    refused(
        r"'vlm' fills .* has bert_config\.num_hidden_layers=5 \(here 6\)$",
        run_of(text, {"replacement": "vlm"}, {"num_hidden_layers": 6}, teacher_path=path),
    )
    (text.parent / "meter").mkdir()
    other = saved_meter(text.parent / "meter")
    refused(r"its keys are those of METER, not of ALBEF", run_of(text, teacher_path=str(other)))
    refused(r"nowhere\.pth: no such file", run_of(text, teacher_path="nowhere.pth"))


def test_other_scripts_have_no_epic(text: Path) -> None:
    config = {key: value for key, value in run_of(text).items() if key not in ("epic", "teacher_path")}
    check_epic(BASELINE, config)
    assert list(odd_settings(BASELINE, config)) == []


def test_a_teacher_that_momentum_leaves_unread_is_told(text: Path) -> None:
    (line,) = odd_settings(BASELINE, run_of(text, {"teacher": "momentum"}, teacher_path="a.pth"))
    assert line == "teacher_path=a.pth is not read: epic.teacher='momentum' asks no teacher"
    (line,) = odd_settings(BASELINE, run_of(text, {"enabled": False, "append_sep": True}))
    assert line.endswith("does nothing: a configuration configs/*_epic.yaml switches it on")
