"""Files through every script's loading: what arrives, what may be missing, and what is refused.

Source: docs/official/xvlm.md §7, §8.3.
"""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.unit.xvlm.small import pretraining
from tests.unit.xvlm.small_tasks import task_model
from vlp.checkpoint.weights import WeightsError, read_state_dict, sha256_of_file
from vlp.nn.relative_bias import interpolate_bias_table
from xvlm.models.checkpoints import SURGERY, load_checkpoint

TASKS = ["retrieval", "nlvr", "nlvr_pretrain", "bbox", "bbox_pretrain"]
HEADS = {"nlvr": {"cls_head"}, "nlvr_pretrain": {"ta_head"}}
WIDER: dict[str, Any] = {"image_res": 128, "vision_config": {"image_res": 128, "window_size": 4}}


def saved(model: nn.Module, path: Path, *without: str, **more: Any) -> Path:
    """The model as the official code saves it, less the tensors with one of these prefixes."""
    state = {name: t for name, t in model.state_dict().items() if not name.startswith(without or ("?",))}
    torch.save({"model": state, "config": {}, **more}, path)
    return path


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(pretraining(seed=1), tmp_path_factory.mktemp("pretrained") / "model_state_step_199999.th")


def loaded(task: str, path: Path, evaluate: bool = False, **changes: Any) -> tuple[dict[str, Tensor], list[str]]:
    model = pretraining(seed=9, **changes) if task == "pretrain" else task_model(task, seed=9, **changes)
    missing = load_checkpoint(model, path, task, evaluate)
    return model.state_dict(), missing


@pytest.mark.parametrize("task", ["pretrain", *TASKS])
def test_a_pretrained_file_in_every_script_at_another_image_size(
    task: str, pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = read_state_dict(pretrained)
    with caplog.at_level(logging.INFO):
        state, missing = loaded(task, pretrained, **WIDER)
    assert f"sha256 {sha256_of_file(pretrained)}" in caplog.text and "zero-shot" not in caplog.text
    assert {name.split(".")[0] for name in missing} == HEADS.get(task, set())
    built = (pretraining if task == "pretrain" else lambda **given: task_model(task, **given))(**WIDER).state_dict()
    tables = 0
    for name, tensor in source.items():
        if not name.startswith("vision_encoder."):
            continue
        if name.endswith(("attn_mask", "relative_position_index")):
            assert torch.equal(state[name], built[name]) and state[name].shape != tensor.shape
        elif name.endswith("relative_position_bias_table"):
            assert torch.equal(state[name], interpolate_bias_table(tensor, len(state[name]))), name
            tables += len(state[name]) == 49 and len(tensor) == 25
        else:
            assert torch.equal(state[name], tensor), name
    assert tables == 7
    bert = "text_encoder.bert." if task == "pretrain" else "text_encoder."
    layer = 5 if task.startswith("nlvr") else 3
    for part in ("crossattention.self.query.weight", "output.dense.bias"):
        theirs = source[f"text_encoder.bert.encoder.layer.3.{part}"]
        assert torch.equal(state[f"{bert}encoder.layer.{layer}.{part}"], theirs)


@pytest.mark.parametrize("evaluate", [False, True])
@pytest.mark.parametrize("task", ["pretrain", *TASKS])
def test_a_file_of_the_task_itself(task: str, evaluate: bool, tmp_path: Path) -> None:
    source = pretraining(seed=3) if task == "pretrain" else task_model(task, seed=3)
    state, missing = loaded(task, saved(source, tmp_path / "checkpoint_best.pth"), evaluate)
    assert not missing
    for name, tensor in source.state_dict().items():
        assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize("task", ["retrieval", "bbox"])
def test_zero_shot_evaluation_has_the_pretrained_text_encoder(
    task: str, pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Officially --evaluate renames nothing, so that the text encoder stays random."""
    with caplog.at_level(logging.INFO):
        state, missing = loaded(task, pretrained, evaluate=True)
    assert not missing and f"zero-shot: {pretrained} is a checkpoint of pre-training" in caplog.text
    for name, tensor in read_state_dict(pretrained).items():
        if name.startswith("text_encoder.bert."):
            assert torch.equal(state[name.replace(".bert.", ".", 1)], tensor), name


def test_nlvr2_starts_from_its_first_stage_or_from_pretraining(pretrained: Path, tmp_path: Path) -> None:
    assigned = saved(task_model("nlvr_pretrain", seed=2), tmp_path / "model_state_epoch_latest.th")
    for path, layer in ((assigned, 4), (pretrained, 3)):
        source, (state, missing) = read_state_dict(path), loaded("nlvr", path)
        bert = "text_encoder." if path == assigned else "text_encoder.bert."
        theirs = source[f"{bert}encoder.layer.{layer}.output.dense.weight"]
        assert torch.equal(state["text_encoder.encoder.layer.4.output.dense.weight"], theirs)
        assert {name.split(".")[0] for name in missing} == {"cls_head"}


def test_files_of_another_stage(pretrained: Path, tmp_path: Path) -> None:
    boxes = saved(task_model("bbox"), tmp_path / "bbox.pth")
    assigned = saved(task_model("nlvr_pretrain"), tmp_path / "assigned.th")
    for task, path, evaluate, message in (
        ("nlvr", pretrained, True, r"199999\.th: has no cls_head: --evaluate scores a fine-tuned checkpoint"),
        ("nlvr", assigned, True, r"assigned\.th: has no cls_head"),
        ("retrieval", boxes, True, r"bbox\.pth: has no vision_proj"),
        ("retrieval", assigned, False, r"also has \['text_encoder\.encoder\.layer\.4"),
        ("pretrain", boxes, False, r"bbox\.pth lacks \['temp'"),
    ):
        with pytest.raises(WeightsError, match=message):
            loaded(task, path, evaluate)


def test_incomplete_files_and_files_of_another_size(pretrained: Path, tmp_path: Path) -> None:
    half = saved(pretraining(), tmp_path / "half.th", "vision_encoder.layers.2")
    with pytest.raises(WeightsError, match=r"half\.th lacks \['vision_encoder\.layers\.2"):
        loaded("retrieval", half)
    sized = saved(pretraining(), tmp_path / "sized.th", config={"embed_dim": 8, "vision_config": "x.json"})
    with pytest.raises(WeightsError, match=r"vision_proj\.weight: .*The checkpoint has embed_dim=8 \(here 4\)"):
        loaded("retrieval", sized, embed_dim=4)
    state = read_state_dict(pretrained)
    table = "vision_encoder.layers.0.blocks.0.attn.relative_position_bias_table"
    torch.save({"model": {**state, table: torch.zeros(24, 1)}}, tmp_path / "no_grid.th")
    with pytest.raises(WeightsError, match=r"no_grid\.th: a relative-position bias table of 24 rows"):
        loaded("bbox", tmp_path / "no_grid.th")
    cut = tmp_path / "cut.th"
    cut.write_bytes(pretrained.read_bytes()[:-2000])
    with pytest.raises(WeightsError, match=r"cut\.th"):
        loaded("bbox", cut)


@pytest.mark.parametrize(
    ("names", "of"),
    [
        (("cross_modal_text_transform.weight",), "METER"),
        (("visual_encoder.x", "text_encoder.x"), "ALBEF"),
        (("patch_embed.x", "layers.0.blocks.0.x"), "Swin"),
    ],
)
def test_files_of_another_model(names: tuple[str, ...], of: str, tmp_path: Path) -> None:
    torch.save({"model": {name: torch.zeros(1) for name in names}}, tmp_path / "other.th")
    with pytest.raises(WeightsError, match=rf"other\.th: its keys are those of {of}, not of X-VLM"):
        loaded("bbox", tmp_path / "other.th")


def test_a_file_with_pickled_objects_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "unsafe.th"
    torch.save({"model": pretraining().state_dict(), "hook": subprocess.Popen}, path)
    with pytest.raises(WeightsError, match=r"unsafe\.th: holds pickled Python objects \(.*Popen\); not loaded"):
        loaded("retrieval", path)


def test_every_script_has_its_surgery() -> None:
    assert {*TASKS, "pretrain", "vqa", "captioning", "captioning_pretrain"} == SURGERY.keys()
