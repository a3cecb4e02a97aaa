"""VQA by its script: one epoch from a pre-training checkpoint, the answers, and when they are asked for.

Source: docs/official/xvlm.md §7.2.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from tests.launch.xvlm.launcher import NO_DROPOUT, Run, XvlmLauncher
from vlp.checkpoint.weights import sha256_of_file


@pytest.fixture(scope="module")
def tuned(xvlm: XvlmLauncher) -> Run:
    return xvlm.run("VQA", "--checkpoint", xvlm.pretrained)


def answers(xvlm: XvlmLauncher, path: Path) -> dict[int, str]:
    """The answers of a file, one of the list to every question of the test list."""
    lists = xvlm.data / "lists"
    candidates, rows = (json.loads((lists / name).read_text()) for name in ("answer_list.json", "vqa_test.json"))
    found = json.loads(path.read_text())
    assert all(set(each) == {"question_id", "answer"} and each["answer"] in candidates for each in found)
    by_question = {each["question_id"]: each["answer"] for each in found}
    assert len(found) == len(by_question) and by_question.keys() == {row["question_id"] for row in rows}
    return by_question


def test_one_epoch(xvlm: XvlmLauncher, tuned: Run) -> None:
    (line,) = tuned.log
    assert set(line) == {"train_lr", "train_loss", "epoch"}
    values = tuned.values("train/loss")
    assert len(values) > 1 and all(map(math.isfinite, values))
    assert float(line["train_loss"]) == pytest.approx(sum(values) / len(values), abs=1e-4)
    state = tuned.official("model_state_epoch_0.th")
    before = torch.load(xvlm.pretrained, weights_only=True)["model"]
    key = "text_decoder.bert.encoder.layer.0.output.dense.weight"
    start = before["text_encoder.bert.encoder.layer.2.output.dense.weight"]
    assert not torch.equal(state["model"][key], start) and torch.allclose(state["model"][key], start, atol=0.05)
    groups = tuned.official("training_state_latest.th")["optimizer"]["param_groups"]
    assert [len(group["params"]) for group in groups[2:]] == [4, 4]  # the decoder's keys and values of the question


@pytest.mark.slow
def test_evaluation_gives_the_same_answers(xvlm: XvlmLauncher, tuned: Run) -> None:
    checkpoint = tuned.directory / "model_state_epoch_0.th"
    scored = xvlm.run("VQA", "--evaluate", "--checkpoint", str(checkpoint))
    trained = answers(xvlm, tuned.directory / "result" / "vqa_result_epoch0.json")
    assert answers(xvlm, scored.directory / "result" / "vqa_eval.json") == trained
    assert scored.results["task"] == "vqa" and scored.results["checkpoint_sha256"] == sha256_of_file(checkpoint)
    assert not list(scored.directory.glob("*.th"))


def test_questions_are_asked_from_start_eval_on(xvlm: XvlmLauncher) -> None:
    run = xvlm.run("VQA", "--checkpoint", xvlm.pretrained, "schedular.epochs=4", "start_eval=2", *NO_DROPOUT)
    files = sorted(path.name for path in (run.directory / "result").iterdir())
    assert files == ["vqa_result_epoch2.json", "vqa_result_epoch3.json"]
    assert len(run.log) == 4


def test_the_last_epoch_is_always_asked(xvlm: XvlmLauncher, tuned: Run) -> None:
    """The default is that of ten epochs."""
    assert tuned.official("model_state_epoch_0.th")["config"]["start_eval"] == 7
    assert [path.name for path in (tuned.directory / "result").iterdir()] == ["vqa_result_epoch0.json"]


def test_a_pre_training_checkpoint_cannot_answer(xvlm: XvlmLauncher) -> None:
    refused = xvlm.run("VQA", "--evaluate", "--checkpoint", xvlm.pretrained, check=False)
    assert refused.status == 1
    assert "has no text_decoder: --evaluate scores a fine-tuned checkpoint" in refused.output
