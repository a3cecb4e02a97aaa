"""Models start from files of the official formats, say which, and refuse every other start.

Source: docs/official/albef.md §4.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel, RobertaConfig, RobertaForMaskedLM

from tests.unit.albef.small import BERT, config_of
from vlp.checkpoint.weights import WeightsError, sha256_of_file
from vlp.hub import HubError
from vlp.nn.positions import interpolate_pos_embed

SIZES: dict[str, Any] = {name: value for name, value in BERT.items() if name not in ("fusion_layer", "encoder_width")}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def build(task: str = "pretrain", **changes: Any) -> Any:
    module = {"nlvr_pretrain": "model_pretrain_nlvr"}.get(task, f"model_{task}")
    return __import__(f"albef.models.{module}", fromlist=["ALBEF"]).ALBEF(config_of(**changes))


def deit(image_size: int = 32, **changes: Any) -> dict[str, Tensor]:
    """A classifier of timm's own class, as DeiT's files hold it."""
    sizes: dict[str, Any] = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8, **changes}
    return timm.create_model("deit_base_patch16_224", img_size=image_size, num_classes=7, **sizes).state_dict()


def bert(**changes: Any) -> BertForMaskedLM:
    return BertForMaskedLM(BertConfig(**{**SIZES, **changes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bert().save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def same(model_state: dict[str, Tensor], prefix: str, source: dict[str, Tensor]) -> int:
    """How many tensors below ``prefix`` are those of ``source``; every one that both have must be equal."""
    common = [name for name in source if prefix + name in model_state and not name.endswith("position_ids")]
    for name in common:
        assert torch.equal(model_state[prefix + name], source[name]), name
    return len(common)


def test_deit_and_bert(tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, path = deit(), tmp_path / "deit.pth"
    torch.save({"model": state}, path)
    with caplog.at_level(logging.INFO):
        model = build(init={"vision": str(path), "text": "pretrained"}, text_encoder=str(folder))
    assert f"[init] vision: {path}, 30 tensors, sha256 {sha256_of_file(path)}" in caplog.text
    assert f"[init] text: {folder}," in caplog.text and "sha256 of its tensors" in caplog.text
    got = model.state_dict()
    expected = {**state, "pos_embed": interpolate_pos_embed(state["pos_embed"], 5)}
    assert got["visual_encoder.pos_embed"].shape == (1, 5, 24)
    official = BertForMaskedLM.from_pretrained(folder).state_dict()
    for copy in ("", "_m"):  # the momentum models are copies of what was loaded
        assert same(got, f"visual_encoder{copy}.", expected) == 30
        assert same(got, f"text_encoder{copy}.", official) == len(official)
    own = [name for name in got if name.startswith("text_encoder.") and "crossattention" not in name]
    assert len(own) - 1 == len([name for name in official if not name.endswith("position_ids")])  # less position_ids
    assert model.training and model.text_encoder.training


@pytest.mark.parametrize("form", ["masked language model", "of the first files", "bare"])
def test_a_bert_in_a_file(form: str, tmp_path: Path) -> None:
    state = bert().state_dict()
    saved = dict(state)
    if form == "of the first files":
        renamed = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for new, old in renamed.items():
            saved = {name.replace(new, old): t for name, t in saved.items()}
    if form == "bare":
        saved = {name.removeprefix("bert."): t for name, t in state.items() if name.startswith("bert.")}
    path = tmp_path / "pytorch_model.bin"
    torch.save(saved, path)
    init = {"vision": "random", "text": str(path)}
    if form == "bare":
        with pytest.raises(WeightsError, match=r"pytorch_model\.bin lacks \['cls\.predictions"):
            build(init=init)
        return
    assert same(build(init=init).state_dict(), "text_encoder.", state) == len(state)


def test_downstream_text_parts_without_a_checkpoint(tmp_path: Path, folder: Path) -> None:
    """VQA's decoder takes the first layers, as the official constructor does; NLVR2's upper layers stay as built."""
    state = BertForMaskedLM.from_pretrained(folder).state_dict()
    init = {"vision": "random", "text": "pretrained"}
    names = {"text_encoder": str(folder), "text_decoder": str(folder)}
    model = build("vqa", init=init, **names).state_dict()
    bare = {name.removeprefix("bert."): t for name, t in state.items() if name.startswith("bert.")}
    assert same(model, "text_encoder.", bare) == len(bare)
    for name in ("bert.encoder.layer.1.output.dense.weight", "cls.predictions.bias"):
        assert torch.equal(model[f"text_decoder.{name}"], state[name])
    paired = build("nlvr", init=init, **names).state_dict()
    for layer in range(4):
        name = f"encoder.layer.{layer}.output.dense.weight"
        assert torch.equal(paired[f"text_encoder.{name}"], bare[name])
        assert torch.equal(paired[f"text_encoder_m.{name}"], bare[name])


@pytest.mark.parametrize("task", ["retrieval", "vqa", "ve", "nlvr", "nlvr_pretrain"])
def test_a_downstream_model_needs_a_checkpoint(task: str) -> None:
    with pytest.raises(ValueError, match=r"checkpoint: none is given.*--checkpoint FILE.*init=random"):
        build(task, init="pretrained")
    build(task, init="random")
    if task != "nlvr":  # whose teacher starts from BERT
        build(task, init="pretrained", checkpoint="albef.pth")
    build(task, init="pretrained", resume_from="last.ckpt")


def test_the_official_teacher_of_nlvr2_starts_from_bert(folder: Path) -> None:
    changes: dict[str, Any] = {"init": "pretrained", "checkpoint": "albef.pth", "text_encoder": str(folder)}
    word = "text_encoder_m.embeddings.word_embeddings.weight"
    expected = BertForMaskedLM.from_pretrained(folder).bert.embeddings.word_embeddings.weight
    assert torch.equal(build("nlvr", **changes).state_dict()[word], expected)
    assert not torch.equal(build("nlvr", **changes, momentum_after_loading=True).state_dict()[word], expected)


def test_names_that_the_hub_does_not_give() -> None:
    with pytest.raises(HubError, match=r"vision weights 'deit_base_patch16_224\.fb_in1k'.*give init\.vision=FILE"):
        build(init={"vision": "pretrained", "text": "random"})
    with pytest.raises(HubError, match=r"text encoder 'bert-none'.*give text_encoder=FOLDER"):
        build(init={"vision": "random", "text": "pretrained"}, text_encoder="bert-none")


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    wrong, short, no_grid = (tmp_path / f"{name}.pth" for name in ("wrong", "short", "no_grid"))
    torch.save(deit(embed_dim=32), wrong)
    torch.save(deit(depth=1), short)
    torch.save({**deit(), "pos_embed": torch.zeros(1, 4, 24)}, no_grid)
    for path, message in (
        (wrong, r"wrong\.pth does not fit the model: cls_token.*Check vision_config"),
        (short, r"short\.pth lacks \['blocks\.1"),
        (no_grid, r"no_grid\.pth: a position table of 4 rows is not 1 \+ a square grid"),
        (tmp_path / "none.pth", r"init\.vision=.*none\.pth: no such file"),
    ):
        with pytest.raises(WeightsError, match=message):
            build(init={"vision": str(path), "text": "random"})


def test_texts_that_do_not_fit(tmp_path: Path) -> None:
    bert(hidden_size=32).save_pretrained(tmp_path / "wide")
    bert(num_hidden_layers=2).save_pretrained(tmp_path / "short")
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path / "bare")
    small: dict[str, Any] = {
        name: SIZES[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    }
    RobertaForMaskedLM(RobertaConfig(**small)).save_pretrained(tmp_path / "roberta")
    for name, message in (
        ("wide", r"wide does not fit the model: .*Check bert_config"),
        ("short", r"short lacks \['bert\.encoder\.layer\.2"),
        ("bare", r"bare lacks \['cls\.predictions"),
        ("roberta", r"roberta: is no BERT"),
        ("none", r"none: is no folder"),
    ):
        with pytest.raises(WeightsError, match=message):
            build(init={"vision": "random", "text": str(tmp_path / name)})


def test_random_start_is_the_official_one() -> None:
    torch.manual_seed(0)
    wide: dict[str, Any] = {"vision_config": {"patch_size": 8, "width": 64, "depth": 1, "heads": 2}}
    sizes = {**BERT, "hidden_size": 64, "encoder_width": 64, "intermediate_size": 128}
    from albef.models.model_pretrain import ALBEF

    state = ALBEF({**config_of(**wide), "bert_config": sizes}).state_dict()
    for name in (
        *("visual_encoder.cls_token", "visual_encoder.pos_embed", "visual_encoder.blocks.0.mlp.fc1.weight"),
        "text_encoder.bert.embeddings.word_embeddings.weight",
        "text_encoder.bert.encoder.layer.3.crossattention.self.key.weight",
        "text_encoder.bert.encoder.layer.3.crossattention.output.dense.weight",
    ):
        assert float(state[name].std()) == pytest.approx(0.02, rel=0.25), name
    for name in (
        "visual_encoder.blocks.0.attn.qkv.bias",
        "text_encoder.bert.encoder.layer.3.crossattention.self.key.bias",
    ):
        assert not state[name].any(), name
    # PyTorch's default for projections and heads: uniform within 1 / sqrt(fan-in).
    assert float(state["vision_proj.weight"].abs().max()) == pytest.approx(1 / 8, rel=0.1)
    assert torch.allclose(state["image_queue"].norm(dim=0), torch.ones(12))
