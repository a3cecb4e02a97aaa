"""What is told about a checkpoint file, without running anything in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.parity.fixture import FIXTURES
from tests.unit.checkpoint.files import CONFIG, malicious, meter_state, official
from vlp.checkpoint.__main__ import main
from vlp.checkpoint.inspection import inspect, shapes, text
from vlp.checkpoint.recognition import known_extras, looks_like
from vlp.checkpoint.weights import sha256_of_file


def test_an_official_file(tmp_path: Path) -> None:
    path = tmp_path / "official.ckpt"
    official(path)
    found = inspect(path)
    assert json.loads(json.dumps(found)) == found
    assert (found["bytes"], found["sha256"]) == (path.stat().st_size, sha256_of_file(path))
    assert (found["kind"], found["baseline"]) == ("Lightning checkpoint", "METER")
    assert (found["epoch"], found["global_step"], found["pytorch-lightning_version"]) == (9, 100000, "1.3.2")
    state = meter_state()
    numbers = sum(t.numel() for name, t in state.items() if name != "text_transformer.embeddings.position_ids")
    dtypes = {"float32": 8, "int64": 1, "bfloat16": 1, "float16": 1}
    assert found["tensors"] == {"count": len(state), "parameters": numbers, "dtypes": dtypes}
    assert found["epic"]["count"] == 0 and found["optimizer_states"] == 1
    assert found["extras"] == ["vit_model.token_embedding.weight", "text_transformer.embeddings.position_ids"]
    sizes = {"patch": 16, "image_size": 288, "vocab_size": 7, "text_positions": 14, "fusion_layers": 2}
    assert found["shapes"] == sizes
    assert (found["config"], found["versions"], found["pickled"], found["error"]) == (CONFIG, None, [], None)


def test_a_run_of_ours(tmp_path: Path) -> None:
    state = {"epic.generator.word_embeddings.weight": torch.randn(99, 4), **meter_state()}
    versions = {"torch": "2.13.0"}
    content = {"state_dict": state, "pytorch-lightning_version": "2.6.6", "versions": versions, "global_step": 3}
    torch.save(content, tmp_path / "run.ckpt")
    found = inspect(tmp_path / "run.ckpt")
    assert found["kind"] == "Lightning checkpoint of this project" and found["versions"] == versions
    assert found["epic"] == {"count": 1, "parameters": 396, "dtypes": {"float32": 1}}
    assert found["shapes"]["vocab_size"] == 7  # the student's
    assert found["config"] is None


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.pt", {"a": torch.ones(2)}, "state dict"),
        ("a.pth", {"model": {"a": torch.ones(2)}, "epoch": 3}, "checkpoint, tensors under 'model'"),
        ("a.safetensors", {"a": torch.ones(2)}, "safetensors"),
        ("clip.pt", torch.nn.Linear(2, 3), "TorchScript archive"),
    ],
)
def test_kinds_of_files(name: str, content: Any, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "TorchScript archive":
        torch.jit.script(content).save(str(path))
    else:
        (save_file if kind == "safetensors" else torch.save)(content, path)
    found = inspect(path)
    assert (found["kind"], found["baseline"], found["error"]) == (kind, None, None)
    assert found["tensors"]["parameters"] == (9 if kind == "TorchScript archive" else 2)


# Untrusted files ------------------------------------------------------------------------------------------


def test_a_file_with_pickled_objects_is_told_about_all_the_same(tmp_path: Path) -> None:
    official(tmp_path / "old.ckpt", "namespace")
    found = inspect(tmp_path / "old.ckpt")
    names = ["argparse.Namespace", "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint"]
    assert (found["pickled"], found["error"]) == (names, None)
    assert (found["baseline"], found["config"], found["tensors"]["count"]) == ("METER", CONFIG, len(meter_state()))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_that_runs_a_command_is_told_about_and_not_obeyed(
    zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "executed"
    malicious(path, mark, zipped)
    assert main(["inspect", str(path)]) == 1
    output = capsys.readouterr().out
    assert "keys of    METER" in output and "pickled    posix.system (not run;" in output
    assert "wants to call posix.system" in output
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>404</html>", "is a web page (download the file itself), not a checkpoint"),
        (b"PK\x03\x04 not a zip at all", "truncated, damaged or not a checkpoint"),
        (b"", "is empty (0 bytes)"),
    ],
)
def test_files_that_are_no_checkpoints(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    assert main(["inspect", str(path)]) == 1
    output = capsys.readouterr()
    assert f"{path}: {message}" in output.out + output.err
    assert main(["inspect", str(tmp_path)]) == 1 and "is a folder" in capsys.readouterr().err


def test_a_damaged_file_is_found_by_its_check_sums(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"w": torch.zeros(10_000)}, path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    assert inspect(path)["error"] == (
        f"{path}: is damaged, tensor w is not the one that was saved (check sum); restore it from a copy"
    )


# Printed --------------------------------------------------------------------------------------------------


def test_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "official.ckpt"
    official(path)
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed == text(inspect(path)) + "\n"
    for line in (
        "kind       Lightning checkpoint",
        "saved at   epoch=9, global_step=100000, pytorch-lightning_version=1.3.2",
        "shapes     patch=16, image_size=288, vocab_size=7, text_positions=14, fusion_layers=2",
        "config     4 keys: vit=ViT-B/16, image_size=288, datasets=['coco', 'vg']",
        "extras     vit_model.token_embedding.weight, text_transformer.embeddings.position_ids (known, not loaded)",
    ):
        assert f"\n  {line}\n" in printed
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == inspect(path)


# Names and shapes of official models ----------------------------------------------------------------------

OFFICIAL = {
    "ViLT": ["text_embeddings.word_embeddings.weight", "transformer.blocks.0.norm1.weight", "itm_score.fc.weight"],
    "ALBEF": ["visual_encoder.cls_token", "text_encoder.bert.embeddings.word_embeddings.weight", "temp"],
    "X-VLM": ["vision_encoder.patch_embed.proj.weight", "text_encoder.bert.embeddings.word_embeddings.weight"],
    "CLIP": ["visual.transformer.resblocks.0.ln_1.weight", "transformer.resblocks.0.ln_1.weight", "logit_scale"],
    "Swin": ["patch_embed.proj.weight", "layers.0.blocks.0.norm1.weight", "head.weight"],
    "RoBERTa": ["roberta.embeddings.word_embeddings.weight", "roberta.encoder.layer.0.output.dense.bias"],
    "BERT": ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.dense.bias"],
}


@pytest.mark.parametrize("model", OFFICIAL)
def test_models_are_told_apart_by_their_keys(model: str) -> None:
    assert looks_like(OFFICIAL[model]) == model
    assert looks_like(["encoder.weight"]) is None


def table(name: str) -> dict[str, torch.Tensor]:
    """Tensors of the names and shapes of an official table, without memory."""
    rows = [line.split("\t") for line in (FIXTURES / "meter" / f"keys_{name}.tsv").read_text().splitlines()[1:]]
    return {
        key: torch.empty([int(n) for n in shape.split("x") if n.isdigit()], device="meta") for key, shape, _ in rows
    }


@pytest.mark.parametrize(
    ("name", "patch", "image_size", "vocab_size"),
    [
        ("pretrain", 16, 288, 50265),
        ("pretrain_clip32_224", 32, 224, 50265),
        ("pretrain_clip32_bert_224", 32, 224, 30522),
        ("pretrain_swin_base_384", 4, 384, 50265),
    ],
)
def test_sizes_of_the_official_meters(name: str, patch: int, image_size: int, vocab_size: int) -> None:
    state = table(name)
    assert looks_like(state) == "METER"
    found = shapes(state)
    assert found["fusion_layers"] == 6
    assert (found["patch"], found["image_size"], found["vocab_size"]) == (patch, image_size, vocab_size)


def test_extras_of_many_layers_are_counted() -> None:
    """24 blocks, of which the odd ones of the first three stages are shifted."""
    assert known_extras(table("pretrain_swin_base_384")) == ["24 x relative_position_index", "11 x attn_mask"]
    assert known_extras(table("pretrain")) == []
