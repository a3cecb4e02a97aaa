"""METER's checkpoints: what fits is loaded whole, what does not is refused with the key to check.

Source: docs/official/meter.md §8.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from meter.modules.checkpoints import load_checkpoint
from meter.modules.clip_model import ClipVisualTower
from meter.modules.encoders import Encoders
from meter.modules.meter_module import METERTransformerSS
from tests.unit.meter.small import CLIP, IMAGE_SIZE, LAYERS, batch_of, config_of, meter, text_tower
from tests.unit.small_parts import same_tensors, save
from vlp.checkpoint.convert import convert
from vlp.checkpoint.loading import freeze_itm_head
from vlp.checkpoint.weights import WeightsError, sha256_of_file
from vlp.nn.positions import interpolate_clip_positions, interpolate_swin_bias

RETRIEVAL = ("itm", "irtr")


@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_round_trip_under_official_names(vision: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, target = meter(vision), meter(vision)
    assert not same_tensors(source, target)
    path = save(source, tmp_path)
    with caplog.at_level(logging.INFO):
        load_checkpoint(target, path)
    assert same_tensors(source, target)
    assert f"[load] {path}, " in caplog.text and sha256_of_file(path) in caplog.text
    assert "left as built" not in caplog.text


@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_another_image_size(vision: str, tmp_path: Path) -> None:
    source = meter(vision)
    target = meter(vision, image_size=source.config["image_size"] + 32)
    load_checkpoint(target, save(source, tmp_path))
    before, after = source.state_dict(), target.state_dict()
    changed = [key for key in after if not torch.equal(after[key], before[key])]
    for key in changed:
        if key.endswith("relative_position_bias_table"):
            expected = interpolate_swin_bias(before[key], 64, 96)
        elif key.endswith("visual.positional_embedding"):
            expected = interpolate_clip_positions(before[key], 64, 16)
        else:
            assert key.endswith(("relative_position_index", "attn_mask")), key
            continue
        assert torch.equal(after[key], expected)
    assert len([key for key in changed if "position" in key and "index" not in key]) == (1 if vision == "clip" else 5)


def test_official_extras_are_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, target = meter(), meter()
    extras = {
        "vit_model.token_embedding.weight": torch.randn(7, 6),
        "text_transformer.embeddings.position_ids": torch.arange(40)[None],
    }
    with caplog.at_level(logging.INFO):
        load_checkpoint(target, save(source, tmp_path, **extras))
    assert same_tensors(source, target) and "not in this model" not in caplog.text
    assert f"[load] known extras of official files, ignored: {', '.join(extras)}" in caplog.messages


def test_swins_buffers_are_extras_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(meter("swin"), tmp_path)
    with caplog.at_level(logging.INFO):
        load_checkpoint(meter("swin"), path)
    assert any(message.endswith("5 x relative_position_index") for message in caplog.messages)


# Converted files ------------------------------------------------------------------------------------------


def converted(source: Path, *names: str) -> Path:
    """``source`` through a file of every name, one after the other."""
    for name in names:
        target = source.with_name(name)
        convert(source, target, student=True)
        source = target
    return source


@pytest.mark.parametrize("names", [("a.safetensors",), ("a.safetensors", "b.ckpt"), ("a.ckpt", "b.safetensors")])
@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_a_converted_file_gives_the_same_tensors_and_outputs(
    vision: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    source, target = meter(vision).eval(), meter(vision).eval()
    load_checkpoint(target, converted(save(source, tmp_path), *names))
    assert same_tensors(source, target)
    batch = batch_of([5, 7], image_size=IMAGE_SIZE[vision])
    expected, got = source.infer(batch), target.infer(batch)
    assert all(torch.equal(got[key], expected[key]) for key in ("text_feats", "image_feats", "cls_feats"))


@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_a_converted_file_of_another_image_size(vision: str, tmp_path: Path) -> None:
    source = meter(vision)
    path = save(source, tmp_path)
    direct, through = (meter(vision, image_size=source.config["image_size"] + 32) for _ in range(2))
    load_checkpoint(direct, path)
    load_checkpoint(through, converted(path, "a.safetensors"))
    assert not same_tensors(source, through) and same_tensors(direct, through)


def test_a_bare_state_dict_is_a_checkpoint(tmp_path: Path) -> None:
    source, target = meter(), meter()
    torch.save(source.state_dict(), tmp_path / "bare.pt")
    load_checkpoint(target, tmp_path / "bare.pt")
    assert same_tensors(source, target)


def test_heads_that_the_file_lacks_or_the_model_has_not_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mlm, itm = meter(tasks=["mlm"]), meter(tasks=["itm"])
    built = itm.itm_score.fc.weight.clone()
    with caplog.at_level(logging.INFO):
        load_checkpoint(itm, save(mlm, tmp_path))
    assert "not in the file, left as built: itm_score.fc.weight, itm_score.fc.bias" in caplog.text
    assert "in the file, not in this model: mlm_score.bias" in caplog.text
    assert torch.equal(itm.itm_score.fc.weight, built)


# Retrieval ranks with the matching head ------------------------------------------------------------------


def test_a_pretraining_checkpoint_ranks_with_the_matched_row_of_its_itm_head(tmp_path: Path) -> None:
    source, target = meter(), meter(tasks=RETRIEVAL)
    load_checkpoint(target, save(source, tmp_path))
    assert torch.equal(target.rank_output.weight, source.itm_score.fc.weight[1:])
    assert torch.equal(target.rank_output.bias, source.itm_score.fc.bias[1:])
    pair = source.infer(batch_of([5, 7]))["cls_feats"]
    assert torch.allclose(target.rank_output(pair)[:, 0], source.itm_score(pair)[:, 1])
    # No shared storage: training the ranking head leaves the matching head alone.
    assert target.rank_output.weight.data_ptr() != target.itm_score.fc.weight[1].data_ptr()


def test_a_fine_tuned_checkpoint_keeps_its_ranking_head(tmp_path: Path) -> None:
    source, target = meter(tasks=RETRIEVAL), meter(tasks=RETRIEVAL)
    load_checkpoint(target, save(source, tmp_path))
    assert same_tensors(source, target)
    assert not torch.equal(target.rank_output.weight, target.itm_score.fc.weight[1:])


def test_a_checkpoint_that_cannot_rank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither rank_output nor itm_score"):
        load_checkpoint(meter(tasks=RETRIEVAL), save(meter(tasks=["mlm"]), tmp_path))


def test_retrieval_freezes_the_matching_head_alone() -> None:
    model = meter(tasks=RETRIEVAL)
    freeze_itm_head(model)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["itm_score.fc.weight", "itm_score.fc.bias"]
    outputs = model(batch_of([5, 7], false_texts=2))
    (outputs["itm_loss"] + outputs["irtr_loss"]).backward()
    assert model.itm_score.fc.weight.grad is None and model.rank_output.weight.grad is not None


# Files of another model ----------------------------------------------------------------------------------


def other(**parts: Any) -> METERTransformerSS:
    """A METER whose config or towers differ in ``parts``."""
    config = config_of(**{key: value for key, value in parts.items() if key not in ("clip", "text")})
    tower = ClipVisualTower(CLIP._replace(**parts.get("clip", {})), config["image_size"])
    return METERTransformerSS(config, Encoders(tower, text_tower(**parts.get("text", {}))))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"hidden_size": 32}, r"does not fit the model: .*Check vit, image_size, tokenizer, hidden_size"),
        ({"mlp_ratio": 2}, r"does not fit the model: cross_modal_image_layers\.0\.intermediate\.dense"),
        (
            {"clip": {"patch_size": 8}},
            r"visual\.conv1\.weight: \(16, 3, 8, 8\) in the file, \(16, 3, 16, 16\) in the model",
        ),
        ({"num_top_layer": LAYERS + 1}, r"also has \['cross_modal_image_layers\.3\..*another num_top_layer or encoder"),
        ({"num_top_layer": LAYERS - 1}, r"lacks \['cross_modal_image_layers\.2\..*another num_top_layer or encoder"),
        ({"clip": {"layers": 4}}, r"also has \['vit_model\.visual\.transformer\.resblocks\.2\..*encoder"),
        ({"clip": {"layers": 2}}, r"lacks \['vit_model\.visual\.blocks\.1\..*encoder"),
        ({"text": {"num_hidden_layers": 2}}, r"also has \['text_transformer\.encoder\.layer\.1\..*encoder"),
        ({"vocab_size": 50, "text": {"vocab_size": 50}}, r"word_embeddings\.weight: \(50, 16\) in the file"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_checkpoints_of_another_architecture(parts: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"saved\.ckpt .*" + message):
        load_checkpoint(meter(), save(other(**parts), tmp_path))


def test_a_checkpoint_without_a_text_encoder(tmp_path: Path) -> None:
    state = {key: value for key, value in meter().state_dict().items() if not key.startswith("text_transformer")}
    torch.save(state, tmp_path / "half.ckpt")
    with pytest.raises(WeightsError, match=r"half\.ckpt lacks \['text_transformer"):
        load_checkpoint(meter(), tmp_path / "half.ckpt")


def test_clip_and_swin_checkpoints_are_not_mixed_up(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"hidden_size": 32}
    with pytest.raises(WeightsError, match=r"saved\.ckpt (does not fit|lacks)"):
        load_checkpoint(meter("clip", **changes), save(meter("swin", **changes), tmp_path))


def test_a_file_of_anything_else(tmp_path: Path) -> None:
    torch.save({"state_dict": {"encoder.weight": torch.randn(2, 2)}}, tmp_path / "other.ckpt")
    with pytest.raises(
        WeightsError, match=r"other\.ckpt: none of its 1 tensors is METER's \(first: \['encoder\.weight'\]"
    ):
        load_checkpoint(meter(), tmp_path / "other.ckpt")


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        # It shares the names of the token types and of two heads with METER.
        ("ViLT", ["text_embeddings.LayerNorm.bias", "transformer.blocks.0.norm1.bias", "itm_score.fc.bias"]),
        ("ALBEF", ["visual_encoder.cls_token", "text_encoder.bert.embeddings.word_embeddings.weight"]),
        ("X-VLM", ["vision_encoder.norm.weight", "text_encoder.bert.embeddings.word_embeddings.weight"]),
        ("CLIP", ["visual.transformer.resblocks.0.ln_1.weight", "logit_scale"]),
    ],
)
def test_checkpoints_of_another_model_are_named(model: str, keys: list[str], tmp_path: Path) -> None:
    torch.save({"state_dict": {key: torch.randn(2) for key in keys}}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match=rf"other\.ckpt: its keys are those of {model}, not of METER"):
        load_checkpoint(meter(), tmp_path / "other.ckpt")


@pytest.mark.parametrize("form", ["ckpt", "safetensors"])
def test_a_file_that_says_its_config_names_the_keys_that_differ(form: str, tmp_path: Path) -> None:
    theirs = other(hidden_size=32)
    content = {"state_dict": theirs.state_dict(), "hyper_parameters": {"config": theirs.config}}
    torch.save(content, tmp_path / "run.ckpt")
    path = tmp_path / "run.ckpt" if form == "ckpt" else converted(tmp_path / "run.ckpt", "run.safetensors")
    with pytest.raises(WeightsError, match=rf"run\.{form} does not fit .*has hidden_size=32 \(here 16\)$"):
        load_checkpoint(meter(), path)


def test_a_position_table_that_is_no_grid(tmp_path: Path) -> None:
    path = save(meter(), tmp_path, **{"vit_model.visual.positional_embedding": torch.randn(12, 16)})
    with pytest.raises(WeightsError, match=r"saved\.ckpt: a position table of 12 rows"):
        load_checkpoint(meter(), path)
