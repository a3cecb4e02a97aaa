"""Encoders start from files of the official formats, say which, and refuse every other file.

Source: docs/official/meter.md §4.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from transformers import AutoModelForMaskedLM, BertModel

from meter.modules.clip_model import ClipVisualTower
from meter.modules.encoders import Encoders, build_encoders
from meter.modules.sizes import SWIN_SIZES
from meter.modules.swin_transformer import SwinTower
from tests.unit.meter.clip_file import meter_tokens, save_archive, small_clip
from tests.unit.meter.small import CLIP, SWIN, VOCAB, WIDTH, resolved, text_tower
from vlp.checkpoint.weights import WeightsError, sha256_of_file, sha256_of_tensors
from vlp.hub import HubError
from vlp.nn.positions import interpolate_clip_positions, interpolate_swin_bias


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def roberta(tmp_path: Path) -> Path:
    """A text encoder as a folder of Hugging Face's format."""
    text_tower().save_pretrained(tmp_path / "roberta")
    return tmp_path / "roberta"


def build(text: Path, vision: str | Path = "random", **changes: Any) -> Encoders:
    init = {"vision": str(vision), "text": "pretrained"}
    sizes = {"input_text_embed_size": WIDTH, "vocab_size": VOCAB}
    return build_encoders(resolved(["tiny"], tokenizer=str(text), **{**sizes, "init": init, **changes}))


@pytest.mark.parametrize("form", ["archive", "state dict", "under state_dict"])
def test_clip_weights_land_where_they_belong(form: str, roberta: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = small_clip()
    path = roberta.parent / "ViT-tiny.pt"
    if form == "archive":
        save_archive(clip, path)
    else:
        torch.save(clip.state_dict() if form == "state dict" else {"state_dict": clip.state_dict()}, path)
    with caplog.at_level(logging.INFO):
        tower = build(roberta, path).vision.eval()
    assert f"{path}, {len(tower.state_dict())} tensors, sha256 {sha256_of_file(path)}" in caplog.text
    state, official = tower.state_dict(), clip.state_dict()
    assert not [key for key in state if "resblocks.4" in key]  # the last of CLIP's five blocks is dropped
    for key, value in state.items():
        assert value.dtype == torch.float32 and torch.equal(value, official[key].float()), key
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(tower(images), meter_tokens(clip, images), atol=2e-5)


def test_clip_positions_are_interpolated_to_another_image_size(roberta: Path) -> None:
    clip = small_clip()
    path = save_archive(clip, roberta.parent / "clip.pt")
    tower = build(roberta, path, image_size=96).vision
    expected = interpolate_clip_positions(clip.visual.positional_embedding.detach().float(), 96, 16)
    assert torch.equal(tower.state_dict()["visual.positional_embedding"], expected)
    assert tower(torch.randn(1, 3, 96, 96)).shape == (1, 37, 128)


def test_swin_weights_of_another_window(
    roberta: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(SWIN_SIZES, "swin_small", SWIN)
    source = SwinTower(SWIN, 96).state_dict()  # a window of 3
    path = roberta.parent / "swin_small.pth"
    torch.save({"model": {**source, "head.weight": torch.randn(7, 32), "head.bias": torch.randn(7)}}, path)
    with caplog.at_level(logging.INFO):
        tower = build(roberta, path, vit="swin_small", input_image_embed_size=SWIN.width).vision
    assert sha256_of_file(path) in caplog.text
    loaded, built = tower.state_dict(), SwinTower(SWIN, 64).state_dict()  # a window of 2
    assert loaded.keys() == built.keys()
    for key, value in loaded.items():
        if key.endswith("relative_position_bias_table"):
            assert torch.equal(value, interpolate_swin_bias(source[key], 96, 64)), key
        elif key.endswith(("attn_mask", "relative_position_index")):
            assert torch.equal(value, built[key]), key
        else:
            assert torch.equal(value, source[key]), key
    assert tower(torch.randn(1, 3, 64, 64)).shape == (1, 4, SWIN.width)


def test_random_clip_blocks_have_the_spread_of_their_width() -> None:
    """As the fusion layers: BERT's at its width, more at a smaller one (docs/fidelity.md)."""
    tower = ClipVisualTower(CLIP._replace(width=96), 32)
    matrices = [p for p in tower.visual.blocks.parameters() if p.ndim == 2]
    assert len(matrices) == 4 * (CLIP.layers - 1)
    for matrix in matrices:
        assert matrix.std().item() == pytest.approx(0.02 * (768 / 96) ** 0.5, rel=0.05)
    assert all((p == 0).all() for name, p in tower.visual.blocks.named_parameters() if name.endswith("bias"))


def test_text_weights_come_from_the_folder(roberta: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(1)
    with caplog.at_level(logging.INFO):
        text = build(roberta).text
    source = type(text).from_pretrained(roberta).state_dict()
    assert all(torch.equal(value, source[key]) for key, value in text.state_dict().items())
    assert f"[init] text: {roberta}, sha256 of its tensors {sha256_of_tensors(source)}" in caplog.text


def test_text_weights_of_a_masked_language_model_serve(tmp_path: Path) -> None:
    language_model: Any = AutoModelForMaskedLM.from_config(text_tower().config)
    language_model.save_pretrained(tmp_path / "lm")
    state = build(tmp_path / "lm").text.state_dict()
    for key, value in language_model.roberta.state_dict().items():
        assert torch.equal(state[key], value), key


def test_loaded_text_encoders_train_with_dropout_as_random_ones_do(roberta: Path) -> None:
    for init in ("pretrained", "random"):
        text = build(roberta, init={"vision": "random", "text": init}).text
        assert all(module.training for module in text.modules())


def test_init_text_names_another_folder_than_the_tokenizer(roberta: Path, tmp_path: Path) -> None:
    text_tower().save_pretrained(tmp_path / "other")
    text = build(roberta, init={"vision": "random", "text": str(tmp_path / "other")}).text
    other = type(text).from_pretrained(tmp_path / "other")
    words, expected = (encoder.state_dict()["embeddings.word_embeddings.weight"] for encoder in (text, other))
    assert torch.equal(words, expected)


@pytest.mark.parametrize("init", ["random", {"vision": "random", "text": "random"}])
def test_random_encoders_read_no_weights(init: Any, tmp_path: Path) -> None:
    text_tower().config.save_pretrained(tmp_path / "roberta")  # no weights in it
    encoders = build(tmp_path / "roberta", init=init)
    assert encoders.text.config.hidden_size == WIDTH and encoders.vision.width == 128


@pytest.mark.parametrize("key", ["load_path", "resume_from"])
def test_a_checkpoint_makes_initial_weights_needless(key: str, tmp_path: Path) -> None:
    text_tower().config.save_pretrained(tmp_path / "roberta")
    build(tmp_path / "roberta", "not there.pt", **{key: "meter.ckpt"})


def test_bert_is_a_text_encoder_too(tmp_path: Path) -> None:
    text_tower("bert").save_pretrained(tmp_path / "bert")
    assert isinstance(build(tmp_path / "bert").text, BertModel)


# Refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 72}, "image_size=72 is not a multiple of the patch size 16"),
        ({"input_text_embed_size": 17}, "input_text_embed_size=17, but the text encoder of tokenizer=.* has 16"),
        ({"vocab_size": 41}, "vocab_size=41, but the text encoder of tokenizer=.* has 40"),
        ({"max_text_len": 39}, "max_text_len=39: .* has 38 positions"),
        ({"init": "clip.pt"}, r"say init\.vision=clip\.pt or init\.text=clip\.pt"),
    ],
)
def test_configs_that_contradict_the_encoders(roberta: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(roberta, **changes)


def test_image_sizes_that_swin_cannot_take(roberta: Path) -> None:
    with pytest.raises(ValueError, match="image_size=100 is not a multiple of 32"):
        build(roberta, vit="swin_base_patch4_window7_224_in22k", image_size=100)


def test_official_weights_that_cannot_be_had(roberta: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere/ViT-B-16\.pt: no such file"):
        build(roberta, "nowhere/ViT-B-16.pt")
    with pytest.raises(
        HubError, match=r"vision weights 'vit_tiny_.*: neither .*; give init\.vision=FILE .*init=random"
    ):
        build(roberta, "vit_tiny_patch16_224.augreg_in21k")
    with pytest.raises(WeightsError, match=r"vision weights vit_none: Unknown model .*; give init\.vision=FILE"):
        build(roberta, "vit_none")
    with pytest.raises(WeightsError, match=r"no official weights; give init\.vision=<file> or init=random"):
        build(roberta, "pretrained")
    with pytest.raises(HubError, match=r"text encoder 'roberta-base': neither .*; give tokenizer=FOLDER .*init=random"):
        build(Path("roberta-base"))


def test_clip_files_of_another_size(roberta: Path) -> None:
    path = save_archive(small_clip(width=64), roberta.parent / "narrow.pt")
    with pytest.raises(WeightsError, match=r"narrow\.pt does not fit the model: .* Check vit and image_size"):
        build(roberta, path)
    path = save_archive(small_clip(layers=3), roberta.parent / "shallow.pt")
    with pytest.raises(
        WeightsError, match=r"shallow\.pt lacks \['visual\.transformer\.resblocks\.3\.*.* of vit=ViT-Tiny/16"
    ):
        build(roberta, path)


def test_positions_that_are_no_grid(roberta: Path) -> None:
    clip = small_clip()
    state = {**clip.state_dict(), "visual.positional_embedding": torch.randn(12, 128)}
    torch.save(state, roberta.parent / "odd.pt")
    with pytest.raises(WeightsError, match=r"odd\.pt: a position table of 12 rows is not 1 \+ a square grid"):
        build(roberta, roberta.parent / "odd.pt")


def test_files_of_another_model(roberta: Path) -> None:
    path = roberta.parent / "other.pt"
    torch.save(text_tower().state_dict(), path)
    with pytest.raises(WeightsError, match=r"other\.pt lacks \['visual\.class_embedding'"):
        build(roberta, path)


def test_text_folders_without_all_tensors(tmp_path: Path) -> None:
    text_tower().save_pretrained(tmp_path / "shallow")
    text_tower(num_hidden_layers=2).config.save_pretrained(tmp_path / "shallow")
    with pytest.raises(WeightsError, match=r"shallow' lacks \['encoder\.layer\.1\..* of its own config\.json"):
        build(tmp_path / "shallow")


def test_text_folders_whose_tensors_have_other_shapes(tmp_path: Path) -> None:
    text_tower().save_pretrained(tmp_path / "narrow")
    text_tower(intermediate_size=48).config.save_pretrained(tmp_path / "narrow")
    with pytest.raises(WeightsError, match=r"text encoder .*narrow: its weights do not fit its own config\.json"):
        build(tmp_path / "narrow")
