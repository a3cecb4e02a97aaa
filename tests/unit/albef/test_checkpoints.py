"""Files through every script's loading: what arrives, what may be missing, and what is refused.

Source: docs/official/albef.md §8.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from albef.models.checkpoints import load_checkpoint
from tests.unit.albef.small import task_model
from vlp.checkpoint.convert import convert
from vlp.checkpoint.inspection import inspect
from vlp.checkpoint.weights import WeightsError, read_state_dict, sha256_of_file
from vlp.nn.positions import interpolate_pos_embed

FROM_PRETRAINING = ["pretrain", "retrieval", "vqa", "ve", "nlvr_pretrain"]


def saved(model: nn.Module, path: Path, *without: str, **more: Any) -> Path:
    """The model as the official code saves it, less the tensors with one of these prefixes."""
    state = {name: t for name, t in model.state_dict().items() if not name.startswith(without or ("?",))}
    torch.save({"model": state, "optimizer": {}, "lr_scheduler": {}, "config": {}, "epoch": 3, **more}, path)
    return path


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(task_model("pretrain", seed=1), tmp_path_factory.mktemp("pretrained") / "checkpoint_29.pth")


@pytest.fixture(scope="module")
def assigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(task_model("nlvr_pretrain", seed=2), tmp_path_factory.mktemp("assigned") / "checkpoint_00.pth")


def loaded(task: str, path: Path, evaluate: bool = False, **changes: Any) -> tuple[dict[str, Tensor], list[str]]:
    model = task_model(task, seed=9, **changes)
    missing = load_checkpoint(model, path, task, evaluate)
    return model.state_dict(), missing


@pytest.mark.parametrize("task", FROM_PRETRAINING)
def test_a_pretrained_file_in_every_script(task: str, pretrained: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = read_state_dict(pretrained)
    with caplog.at_level(logging.INFO):
        state, missing = loaded(task, pretrained)
    assert f"sha256 {sha256_of_file(pretrained)}" in caplog.text
    left = {"retrieval": {"idx_queue"}, "ve": {"cls_head", "cls_head_m"}, "nlvr_pretrain": {"ta_head"}}
    assert {name.split(".")[0] for name in missing} == left.get(task, set())
    bert = "text_encoder.bert." if task == "pretrain" else "text_encoder."
    for copy in ("", "_m")[: 1 if task == "nlvr_pretrain" else 2]:
        mine = bert.replace("text_encoder", f"text_encoder{copy}")
        layer = f"encoder.layer.{2 if task != 'nlvr_pretrain' else 5}.crossattention.self.query.weight"
        official = f"encoder.layer.{2 if task != 'nlvr_pretrain' else 3}.crossattention.self.query.weight"
        assert torch.equal(state[mine + layer], source[f"text_encoder{copy}.bert.{official}"])
        name = f"visual_encoder{copy}.blocks.1.mlp.fc1.bias"
        assert torch.equal(state[name], source[name])


def test_the_answer_decoder_is_the_fusion_half(pretrained: Path) -> None:
    source, (state, _) = read_state_dict(pretrained), loaded("vqa", pretrained)
    for copy in ("", "_m"):
        for theirs, ours in (
            ("bert.encoder.layer.3.output.dense.weight", "bert.encoder.layer.1.output.dense.weight"),
            ("bert.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"),
            ("cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.weight"),
            ("cls.predictions.bias", "cls.predictions.decoder.bias"),
        ):
            assert torch.equal(state[f"text_decoder{copy}.{ours}"], source[f"text_encoder{copy}.{theirs}"])


@pytest.mark.parametrize("task", FROM_PRETRAINING)
def test_positions_of_another_image_size(task: str, pretrained: Path) -> None:
    source, (state, _) = read_state_dict(pretrained), loaded(task, pretrained, image_res=24)
    for name in ("visual_encoder.pos_embed", "visual_encoder_m.pos_embed"):
        if name in state:
            assert torch.equal(state[name], interpolate_pos_embed(source[name], 10))


@pytest.mark.parametrize("task", ["retrieval", "vqa", "ve", "nlvr", "nlvr_pretrain"])
@pytest.mark.parametrize("evaluate", [False, True])
def test_a_file_of_the_task_itself(task: str, evaluate: bool, tmp_path: Path) -> None:
    source = task_model(task, seed=3)
    state, missing = loaded(task, saved(source, tmp_path / "checkpoint_best.pth"), evaluate)
    assert not missing
    for name, tensor in source.state_dict().items():
        assert torch.equal(state[name], tensor), name


def test_the_teacher_of_nlvr2_is_officially_as_built(assigned: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "text_encoder{}.encoder.layer.4.output.dense.weight"
    built = task_model("nlvr", seed=9).state_dict()
    state, missing = loaded("nlvr", assigned)
    assert torch.equal(state[name.format("_m")], built[name.format("_m")])
    assert {part.split(".")[0] for part in missing} == {
        *("cls_head", "cls_head_m", "visual_encoder_m", "text_encoder_m"),
    }
    assert "the momentum models stay as built, as officially; momentum_after_loading=True" in caplog.text
    assert "left as built: cls_head.0.weight" not in caplog.text and "visual_encoder_m.blocks (24)" in caplog.text
    later, _ = loaded("nlvr", assigned, momentum_after_loading=True)
    assert torch.equal(later[name.format("_m")], read_state_dict(assigned)[name.format("")])


@pytest.mark.parametrize("task", ["retrieval", "vqa", "ve"])
def test_a_file_without_momentum_models_starts_them_as_copies(task: str, tmp_path: Path) -> None:
    momentum = [f"{part}_m." for part in ("visual_encoder", "text_encoder", "vision_proj", "text_proj")]
    state, _ = loaded(task, saved(task_model("pretrain"), tmp_path / "student.pth", *momentum))
    for name, tensor in state.items():
        if name.startswith(("visual_encoder.", "text_encoder.", "text_decoder.")):
            assert torch.equal(state[name.replace(".", "_m.", 1)], tensor), name


def test_files_of_another_stage(pretrained: Path, assigned: Path, tmp_path: Path) -> None:
    tuned = saved(task_model("ve"), tmp_path / "ve.pth")
    for task, path, evaluate, message in (
        ("ve", pretrained, True, r"checkpoint_29\.pth: has no cls_head: --evaluate scores a fine-tuned checkpoint"),
        ("vqa", pretrained, True, r"checkpoint_29\.pth: has no text_decoder: --evaluate"),
        ("nlvr", assigned, True, r"checkpoint_00\.pth: has no cls_head"),
        ("nlvr", pretrained, False, r"is a checkpoint of pre-training; .*run Pretrain_nlvr\.py with it first"),
        ("vqa", tuned, False, r"ve\.pth lacks \['text_decoder\.bert"),
        ("pretrain", tuned, False, r"ve\.pth lacks \['temp', 'image_queue'"),
        ("retrieval", assigned, False, r"also has \['text_encoder\.encoder\.layer\.4"),
    ):
        with pytest.raises(WeightsError, match=message):
            loaded(task, path, evaluate)


def test_files_of_another_size(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"image_queue: \(8, 12\) in the file, \(8, 24\) in the model"):
        loaded("pretrain", pretrained, queue_size=24)
    sized = saved(task_model("pretrain"), tmp_path / "sized.pth", config={"queue_size": 12, "bert_config": "x.json"})
    with pytest.raises(WeightsError, match=r"The checkpoint has queue_size=12 \(here 24\)"):
        loaded("pretrain", sized, queue_size=24)
    no_grid = {**read_state_dict(pretrained), "visual_encoder.pos_embed": torch.zeros(1, 4, 16)}
    torch.save({"model": no_grid}, tmp_path / "no_grid.pth")
    with pytest.raises(WeightsError, match=r"no_grid\.pth: a position table of 4 rows is not 1 \+ a square grid"):
        loaded("ve", tmp_path / "no_grid.pth")


@pytest.mark.parametrize(
    ("names", "of"),
    [
        (("cross_modal_text_transform.weight",), "METER"),
        (("text_embeddings.x", "transformer.blocks.0.x"), "ViLT"),
        (("vision_encoder.x", "text_encoder.x"), "X-VLM"),
        (("bert.encoder.layer.0.x",), "BERT"),
    ],
)
def test_files_of_another_model(names: tuple[str, ...], of: str, tmp_path: Path) -> None:
    torch.save({"model": {name: torch.zeros(1) for name in names}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=rf"other\.pth: its keys are those of {of}, not of ALBEF"):
        loaded("ve", tmp_path / "other.pth")


def test_weights_of_an_added_objective_are_left_out(tmp_path: Path) -> None:
    model = task_model("pretrain", seed=4)
    state = {**model.state_dict(), "epic.head.weight": torch.ones(1, 16)}
    torch.save({"model": state}, tmp_path / "epic.pth")
    for task in FROM_PRETRAINING:
        _, missing = loaded(task, tmp_path / "epic.pth")
        assert not any(name.startswith("epic.") for name in missing)


def test_inspection_and_conversion(pretrained: Path, tmp_path: Path) -> None:
    found = inspect(pretrained)
    assert found["baseline"] == "ALBEF" and found["kind"] == "checkpoint, tensors under 'model'"
    assert (found["epoch"], found["optimizer_states"]) == (3, 1)
    assert found["shapes"] == {
        **{"patch": 8, "image_size": 16, "vocab_size": 200, "text_positions": 40, "fusion_layers": 2},
    }
    target = tmp_path / "albef.safetensors"
    convert(pretrained, target)
    for name, tensor in read_state_dict(pretrained).items():
        assert torch.equal(read_state_dict(target)[name], tensor), name
    state, missing = loaded("retrieval", target)
    assert missing == ["idx_queue"] and torch.equal(state["temp"], read_state_dict(pretrained)["temp"])


def test_the_config_of_a_saved_run_goes_along(tmp_path: Path) -> None:
    path = saved(task_model("ve"), tmp_path / "ve.pth", config={"image_res": 16, "bert_config": "configs/x.json"})
    assert inspect(path)["config"]["image_res"] == 16
    convert(path, tmp_path / "ve.safetensors")
    assert inspect(tmp_path / "ve.safetensors")["config"] == inspect(path)["config"]
