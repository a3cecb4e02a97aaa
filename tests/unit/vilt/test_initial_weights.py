"""The transformer starts from files of the official format, says which, and refuses all others.

Source: docs/official/vilt.md §4.3, §8.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.unit.vilt.small import config_of, resolved, transformer_of
from vilt.modules.initial_weights import build_transformer
from vilt.modules.sizes import VIT_SIZES
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.vision_transformer import VisionTransformer
from vlp.checkpoint.weights import WeightsError, sha256_of_file
from vlp.hub import HubError
from vlp.nn.padding import TokenPlan, UnpaddedLayout

TINY = VIT_SIZES["vit_tiny_patch16_64"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def build(vision: str | Path = "random", **changes: Any) -> VisionTransformer:
    return build_transformer(resolved(["tiny"], **{"init": {"vision": str(vision)}, **changes}))


def imagenet_state(image_size: int = 64, **changes: Any) -> dict[str, Tensor]:
    """A classifier of timm's own class, as ImageNet files hold it."""
    sizes: dict[str, Any] = {"embed_dim": 128, "depth": 4, "num_heads": 4, "patch_size": 16, **changes}
    model: nn.Module = timm.create_model("vit_base_patch16_224", img_size=image_size, num_classes=7, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.state_dict()


def test_the_official_file_is_read_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under "model", with a flat patch embedding, and with a classifier that nothing reads."""
    state = imagenet_state()
    flat = {**state, "patch_embed.proj.weight": state["patch_embed.proj.weight"].flatten(1)}
    path = tmp_path / "jx_vit.pth"
    torch.save({"model": flat}, path)
    with caplog.at_level(logging.INFO):
        transformer = build(path)
    loaded = transformer.state_dict()
    assert loaded.keys() == state.keys() - {"head.weight", "head.bias"}
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert f"[init] vision: {path}, {len(loaded)} tensors, sha256 {sha256_of_file(path)}" in caplog.text


def test_what_was_read_computes_what_timm_computes(tmp_path: Path) -> None:
    torch.save(imagenet_state(), tmp_path / "vit.pth")
    transformer = build(tmp_path / "vit.pth").eval()
    sizes: dict[str, Any] = {"embed_dim": 128, "depth": 4, "num_heads": 4, "patch_size": 16}
    theirs: Any = timm.create_model("vit_base_patch16_224", img_size=64, num_classes=7, **sizes).eval()
    theirs.load_state_dict(torch.load(tmp_path / "vit.pth", weights_only=True))
    images = torch.randn(2, 3, 64, 64)
    tokens = transformer.visual_embed(images)
    layout = UnpaddedLayout(TokenPlan.of(tokens.mask))
    states = transformer.norm(transformer.run_blocks(layout.unpad(tokens.states), layout))
    assert torch.allclose(layout.pad(states), theirs.forward_features(images), atol=1e-4)


def test_positions_of_another_image_size_are_resized_bilinearly(tmp_path: Path) -> None:
    state = imagenet_state(image_size=96)
    torch.save(state, tmp_path / "vit.pth")
    table = state["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (6, 6))
    resize = partial(F.interpolate, size=(4, 4), mode="bilinear", align_corners=False)
    expected = torch.cat([state["pos_embed"][:, :1], resize(table).flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(build(tmp_path / "vit.pth").pos_embed, expected)


def test_masked_patch_prediction_adds_a_token_that_no_file_has(tmp_path: Path) -> None:
    torch.save(imagenet_state(), tmp_path / "vit.pth")
    transformer = build(tmp_path / "vit.pth", loss_names={"mpp": 1})
    assert transformer.mask_token is not None and transformer.mask_token.std() > 0
    assert build().mask_token is None


@pytest.mark.parametrize("init", ["random", {"vision": "random"}])
def test_random_weights_are_read_nowhere_and_have_the_official_spread(init: Any) -> None:
    transformer = build(init=init)
    std = 0.02 * (768 / 128) ** 0.5
    matrices = [p for name, p in transformer.blocks.named_parameters() if p.ndim == 2]
    for table in [transformer.cls_token, transformer.pos_embed, *matrices]:
        assert table.std().item() == pytest.approx(std, rel=0.2)
    assert all((p == 0).all() for name, p in transformer.blocks.named_parameters() if name.endswith("bias"))


def test_all_but_the_transformer_starts_as_bert_does() -> None:
    """N(0, 0.02) at BERT's width, the padding row too; no text embedding is read from BERT."""
    config = config_of(("itm", "mlm", "mpp", "vqa"), vocab_size=2000, vqav2_label_size=500)
    transformer = transformer_of(config)
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    model = ViLTransformerSS(config, transformer)
    assert all(torch.equal(value, model.transformer.state_dict()[name]) for name, value in before.items())
    own = {name: p for name, p in model.named_parameters() if not name.startswith("transformer.")}
    matrices = {name: p for name, p in own.items() if p.ndim == 2}
    assert {"text_embeddings.word_embeddings.weight", "pooler.dense.weight", "itm_score.fc.weight"} <= matrices.keys()
    std = 0.02 * (768 / config["hidden_size"]) ** 0.5
    for name, p in matrices.items():
        assert abs(p.std().item() / std - 1) < 4 / math.sqrt(2 * p.numel()), name
    assert own["text_embeddings.word_embeddings.weight"][0].any()
    assert not any(p.any() for name, p in own.items() if name.endswith("bias"))


@pytest.mark.parametrize("key", ["load_path", "resume_from"])
def test_a_checkpoint_makes_initial_weights_needless(key: str) -> None:
    build("not there.pth", **{key: "vilt.ckpt"})


def test_the_hub_gives_another_file_than_vilts_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What timm offers today; here a stand-in for the download."""
    state = imagenet_state()
    asked: list[str] = []

    def create_model(name: str, pretrained: bool, num_classes: int) -> Any:
        asked.append(name)
        assert pretrained and num_classes == 0
        stand_in = nn.Module()
        monkeypatch.setattr(stand_in, "state_dict", lambda: state)
        return stand_in

    monkeypatch.setattr("vlp.initial_weights.timm.create_model", create_model)
    monkeypatch.setitem(VIT_SIZES, "vit_base_patch32_384", TINY)
    with caplog.at_level(logging.INFO):
        transformer = build("pretrained", vit="vit_base_patch32_384")
    assert asked == ["vit_base_patch32_384.augreg_in21k_ft_in1k"]
    assert torch.equal(transformer.pos_embed, state["pos_embed"])
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "is not the file that ViLT started from" in warnings[0]
    assert "jx_vit_base_p32_384-830016f5.pth" in warnings[0]


# Refusals ------------------------------------------------------------------------------------------------


def test_a_file_is_given_by_its_own_key() -> None:
    with pytest.raises(ValueError, match=r"say init\.vision=vit\.pth; alone go random and pretrained"):
        build(init="vit.pth")


def test_weights_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"init\.vision=nowhere\.pth: no such file"):
        build("nowhere.pth")
    with pytest.raises(WeightsError, match=r"vit=vit_tiny_patch16_64 has no pre-trained weights; give init\.vision"):
        build("pretrained")
    with pytest.raises(
        HubError, match=r"vision weights 'vit_base.*': neither .*; give init\.vision=FILE .*init=random"
    ):
        build_transformer(resolved(["task_mlm_itm"], init="pretrained"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed_dim": 64}, r"vit\.pth does not fit the model: .*Check vit"),
        ({"depth": 3}, r"vit\.pth lacks \['blocks\.3\..* of vit=vit_tiny_patch16_64"),
        ({"patch_size": 8, "image_size": 32}, r"vit\.pth does not fit the model: patch_embed\.proj\.weight"),
    ],
)
def test_files_of_another_size(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    torch.save(imagenet_state(**changes), tmp_path / "vit.pth")
    with pytest.raises(WeightsError, match=message):
        build(tmp_path / "vit.pth")


def test_positions_that_are_no_grid(tmp_path: Path) -> None:
    torch.save({**imagenet_state(), "pos_embed": torch.randn(1, 12, 128)}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth: a position table of 12 rows is not 1 \+ a square grid"):
        build(tmp_path / "odd.pth")
