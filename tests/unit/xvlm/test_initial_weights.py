"""X-VLM starts from files of the official formats, says which, and refuses every other start.

Source: docs/official/xvlm.md §4.2, §4.3, §8.3.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

import xvlm.models.initial_weights
from tests.unit.xvlm.decoding import OWN
from tests.unit.xvlm.small import TEXT, VISION, config_of
from vlp.checkpoint.weights import WeightsError, sha256_of_file
from vlp.hub import HubError
from vlp.nn.official_names import swin_key
from vlp.nn.relative_bias import interpolate_bias_table
from vlp.nn.swin_encoder import SwinEncoder

BERT: dict[str, Any] = {name: value for name, value in TEXT.items() if name not in ("fusion_layer", "encoder_width")}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def build(task: str = "pretrain", **changes: Any) -> Any:
    return __import__(f"xvlm.models.model_{task}", fromlist=["XVLM"]).XVLM(config_of(**{**OWN, **changes}))


def swin(image_res: int = 96, **changes: Any) -> dict[str, Tensor]:
    """A Swin as the official file holds it: with its derived buffers, and a classifier's head."""
    state = SwinEncoder(image_res, {**VISION, "window_size": image_res // 32, **changes}).state_dict()
    assert any(name.endswith("attn_mask") for name in state)
    return {**state, "head.weight": torch.zeros(7, 64)}


def saved(path: Path, state: dict[str, Tensor]) -> str:
    torch.save({"model": state}, path)
    return str(path)


def bert(**changes: Any) -> BertForMaskedLM:
    return BertForMaskedLM(BertConfig(**{**BERT, **changes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    bert().save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize("given", ["vision_config.ckpt", "init.vision"])
def test_swin_and_bert(given: str, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, path = swin(), tmp_path / "swin.pth"
    saved(path, state)
    vision = "pretrained" if given == "vision_config.ckpt" else str(path)
    ckpt = str(path) if given == "vision_config.ckpt" else ""
    with caplog.at_level(logging.INFO):
        changes: dict[str, Any] = {"vision_config": {"ckpt": ckpt}, "text_encoder": str(folder)}
        model = build(init={"vision": vision, "text": "pretrained"}, **changes)
    assert f"[init] vision: {path}," in caplog.text and f"sha256 {sha256_of_file(path)}" in caplog.text
    assert f"[init] text: {folder}," in caplog.text and "sha256 of its tensors" in caplog.text
    got = model.state_dict()
    for name, tensor in state.items():
        if not name.startswith("head."):
            assert torch.equal(got[f"vision_encoder.{name}"], tensor), name
    official = BertForMaskedLM.from_pretrained(folder).state_dict()
    for name, tensor in official.items():
        assert name.endswith("position_ids") or torch.equal(got[f"text_encoder.{name}"], tensor), name
    assert model.training and model.text_encoder.training


def test_what_no_file_has_is_what_learns_faster(tmp_path: Path, folder: Path) -> None:
    """Cross-attention alone is missing of the text encoder: ten tensors of each fusion layer."""
    init = {"vision": saved(tmp_path / "swin.pth", swin()), "text": str(folder)}
    torch.manual_seed(0)
    model = build(init=init)
    files = {f"vision_encoder.{name}" for name in swin()}
    files |= {f"text_encoder.{name}" for name in BertForMaskedLM.from_pretrained(folder).state_dict()}
    parameters = {name for name, _ in model.named_parameters()}
    assert parameters - files == set(model.init_params)
    crossing = [name for name in model.init_params if ".crossattention." in name]
    assert len(crossing) == 2 * 10


def test_tables_of_another_window(tmp_path: Path) -> None:
    """The file's are made for 96 pixels, the model is for 128."""
    state = swin(96)
    model = build(
        init={"vision": saved(tmp_path / "swin.pth", state), "text": "random"},
        image_res=128,
        vision_config={"image_res": 128, "window_size": 4},
    )
    got = model.vision_encoder.state_dict()
    tables = [name for name in state if name.endswith("relative_position_bias_table")]
    assert len(tables) == 7
    for name in tables:
        expected = interpolate_bias_table(state[name], len(got[name]))
        assert len(got[name]) > len(state[name]) and torch.equal(got[name], expected)
    assert torch.equal(got["layers.1.downsample.reduction.weight"], state["layers.1.downsample.reduction.weight"])


def test_timms_swin_where_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, Any] = {"embed_dim": 8, "depths": (1, 2, 2, 2), "num_heads": (1, 2, 2, 4), "window_size": 3}
    theirs = SwinTransformer(img_size=96, num_classes=0, **sizes)

    def create(name: str, pretrained: bool, num_classes: int) -> SwinTransformer:
        assert (name, pretrained, num_classes) == ("swin_base_patch4_window7_224.ms_in22k", True, 0)
        return theirs

    monkeypatch.setattr(timm, "create_model", create)
    init = {"vision": "pretrained", "text": "random"}
    model = build(init=init, vision_config={"ckpt": str(tmp_path / "none.pth")}).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = theirs.eval().forward_features(images).flatten(1, 2)
        torch.testing.assert_close(model.vision_encoder(images)[:, 1:], expected)
    assert {swin_key(name) for name in theirs.state_dict()} <= set(model.vision_encoder.state_dict())


def test_every_second_layer_of_a_large_bert(tmp_path: Path) -> None:
    """Of 8 layers: 0 and 1 below, then 3 and 5, as of 24 layers 13, 15, … follow the first 12."""
    bert(num_hidden_layers=8).save_pretrained(tmp_path / "large")
    init = {"vision": "random", "text": str(tmp_path / "large")}
    got = build(init=init, load_bertL_by_sep=True).state_dict()
    official = BertForMaskedLM.from_pretrained(tmp_path / "large").state_dict()
    for layer, source in enumerate((0, 1, 3, 5)):
        for part in ("attention.self.query.weight", "output.LayerNorm.bias"):
            name = "bert.encoder.layer.{}." + part
            assert torch.equal(got["text_encoder." + name.format(layer)], official[name.format(source)])
    plain = build(init=init).state_dict()
    name = "bert.encoder.layer.3.output.dense.weight"
    assert torch.equal(plain[f"text_encoder.{name}"], official[name])
    assert not torch.equal(got[f"text_encoder.{name}"], official[name])


def test_the_official_layers_of_bert_large(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    monkeypatch.setattr(xvlm.models.initial_weights, "load_bert", lambda *_: chosen.append(_[-1]))
    sizes = {"fusion_layer": 12, "num_hidden_layers": 18}
    config = {"text_config": sizes, "text_encoder": "bert-large-uncased", "load_bertL_by_sep": True}
    xvlm.models.initial_weights.load_text(None, "pretrained", config)
    assert [chosen[0](layer) for layer in range(18)] == [*range(12), 13, 15, 17, 19, 21, 23]


def test_a_bert_with_too_few_layers(tmp_path: Path) -> None:
    bert(num_hidden_layers=5).save_pretrained(tmp_path / "base")
    init = {"vision": "random", "text": str(tmp_path / "base")}
    with pytest.raises(WeightsError, match=r"base: has no layers \[5\], only 5 of them; load_bertL_by_sep takes"):
        build(init=init, load_bertL_by_sep=True)


@pytest.mark.parametrize("task", ["vqa", "captioning", "captioning_pretrain"])
def test_a_task_needs_a_checkpoint(task: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"checkpoint: none is given.*--checkpoint FILE.*init=random"):
        build(task, init="pretrained")
    build(task, init="random")
    build(task, init="pretrained", checkpoint="4m.th")
    build(task, init="pretrained", resume_from="last.ckpt")
    model = build(task, init={"vision": "random", "text": "pretrained"}, text_encoder=str(folder)).state_dict()
    name = "bert.encoder.layer.1.output.dense.weight"
    assert torch.equal(model[f"text_decoder.{name}"], BertForMaskedLM.from_pretrained(folder).state_dict()[name])


def test_names_that_the_hub_does_not_give(tmp_path: Path) -> None:
    message = r"'swin_base_patch4_window7_224\.ms_in22k'.*put the official file at vision_config\.ckpt="
    with pytest.raises(HubError, match=message):
        build(init={"vision": "pretrained", "text": "random"}, vision_config={"ckpt": str(tmp_path / "none.pth")})
    with pytest.raises(HubError, match=r"text encoder 'bert-none'.*give text_encoder=FOLDER"):
        build(init={"vision": "random", "text": "pretrained"}, text_encoder="bert-none")


def test_files_that_do_not_fit(tmp_path: Path, folder: Path) -> None:
    wide = saved(tmp_path / "wide.pth", swin(embed_dim=16, num_heads=[1, 2, 2, 4]))
    short = saved(tmp_path / "short.pth", swin(depths=[1, 2, 1, 2]))
    small = {name: t[:9] if name.endswith("bias_table") else t for name, t in swin().items()}
    for path, message in (
        (wide, r"wide\.pth does not fit the model: patch_embed.*Check vision_config"),
        (short, r"short\.pth lacks \['layers\.2\.blocks\.1"),
        (saved(tmp_path / "small.pth", small), r"small\.pth: a relative-position bias table of 3 x 3 is too small"),
        (str(tmp_path / "none.pth"), r"init\.vision=.*none\.pth: no such file; put the official file at"),
    ):
        with pytest.raises(WeightsError, match=message):
            build(init={"vision": path, "text": "random"})
    bert(hidden_size=32).save_pretrained(tmp_path / "wide")
    with pytest.raises(WeightsError, match=r"wide does not fit the model: .*Check text_config"):
        build(init={"vision": "random", "text": str(tmp_path / "wide")})
