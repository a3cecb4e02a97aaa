"""Captioning by its scripts: the domain stage, fine-tuning, captions and their scores (docs/official/xvlm.md §7.5)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tests.launch.xvlm.launcher import ITERATIONS, NO_DROPOUT, Run, XvlmLauncher

SCORES = {"Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "CIDEr"}


@pytest.fixture(scope="module")
def stage(xvlm: XvlmLauncher) -> Run:
    return xvlm.run("Captioning_pretrain", "--checkpoint", xvlm.pretrained)


@pytest.fixture(scope="module")
def tuned(xvlm: XvlmLauncher, stage: Run) -> Run:
    start = stage.directory / "model_state_epoch_latest.th"
    return xvlm.run("Captioning", "--checkpoint", str(start), "--load_capt_pretrain")


def captions(xvlm: XvlmLauncher, path: Path, split: str) -> dict[int, str]:
    """The captions of a file, one for every image of the split, without the prompt."""
    references = json.loads((xvlm.data / f"lists/coco_karpathy/coco_karpathy_{split}_gt.json").read_text())
    found = json.loads(path.read_text())
    assert all(set(each) == {"image_id", "caption"} and each["caption"] for each in found)
    by_image = {each["image_id"]: each["caption"] for each in found}
    assert len(by_image) == len(found) == 8
    assert by_image.keys() == {row["image_id"] for row in references["annotations"]}
    assert not any(caption.startswith("a picture of") for caption in by_image.values())
    return by_image


def test_the_domain_stage(xvlm: XvlmLauncher, stage: Run) -> None:
    (line,) = stage.log
    assert set(line) == {"train_lr", "train_lr_large", "train_loss", "epoch"}
    assert len(stage.values("train/loss")) == ITERATIONS and all(map(math.isfinite, stage.values("train/loss")))
    assert [path.name for path in stage.directory.glob("*.th")] == ["model_state_epoch_latest.th"]
    state = stage.official("model_state_epoch_latest.th")["model"]
    before = torch.load(xvlm.pretrained, weights_only=True)["model"]
    own = "bert.encoder.layer.3.crossattention.self.key.weight"
    assert not any(name.startswith("text_encoder.") for name in state)
    assert torch.allclose(state[f"text_decoder.{own}"], before[f"text_encoder.{own}"], atol=0.05)


def test_fine_tuning_writes_and_scores(xvlm: XvlmLauncher, tuned: Run) -> None:
    (line,) = tuned.log
    metrics = {f"{split}_{name}" for split in ("val", "test") for name in SCORES}
    assert metrics <= line.keys() and {"train_lr", "train_loss", "epoch"} <= line.keys()
    assert metrics <= tuned.results["metrics"].keys() and tuned.results["task"] == "captioning"
    for split in ("val", "test"):
        captions(xvlm, tuned.directory / "result" / f"{split}_epoch0.json", split)
        assert 0 <= tuned.results["metrics"][f"{split}_Bleu_4"] <= 1
    assert (tuned.directory / "model_state_epoch_0.th").is_file()


@pytest.mark.slow
def test_evaluation_writes_the_same_captions(xvlm: XvlmLauncher, tuned: Run) -> None:
    checkpoint = tuned.directory / "model_state_epoch_0.th"
    scored = xvlm.run("Captioning", "--evaluate", "--checkpoint", str(checkpoint))
    for split in ("val", "test"):
        trained = captions(xvlm, tuned.directory / "result" / f"{split}_epoch0.json", split)
        assert captions(xvlm, scored.directory / "result" / f"{split}_eval.json", split) == trained
    assert scored.results["metrics"] == pytest.approx(tuned.results["metrics"])


def test_two_processes_write_each_caption_once(xvlm: XvlmLauncher, tuned: Run) -> None:
    """Eight images in batches of three: the sampler gives some of them to both."""
    checkpoint = tuned.directory / "model_state_epoch_0.th"
    run, _ = xvlm.on_two_processes("Captioning", "--evaluate", "--checkpoint", str(checkpoint))
    for split in ("val", "test"):
        trained = captions(xvlm, tuned.directory / "result" / f"{split}_epoch0.json", split)
        assert captions(xvlm, run.directory / "result" / f"{split}_eval.json", split) == trained
    assert run.results["metrics"] == pytest.approx(tuned.results["metrics"])


def test_what_is_refused(xvlm: XvlmLauncher, tmp_path: Path) -> None:
    start = ("--checkpoint", xvlm.pretrained)
    for items, message in (
        ((*start, "--scst"), "--scst: self-critical training is not part of this code"),
        ((*start, "max_length=4", "min_length=2"), "max_length=4: [CLS] and prompt='a picture of ' are"),
        ((*start, f"test_gt_file={tmp_path / 'none.json'}"), "none.json"),
    ):
        refused = xvlm.run("Captioning", *items, *NO_DROPOUT, check=False)
        assert refused.status == 1 and message in refused.output, refused.output
