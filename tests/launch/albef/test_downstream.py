"""Every downstream script: one epoch from the pre-training checkpoint, and the scores of what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.launch.albef.launcher import AlbefLauncher, Run
from tests.launch.yaml_launcher import check_means, check_scored_again


class Task(NamedTuple):
    """What a script leaves.

    Attributes:
        kept: its official checkpoint after one epoch.
        metrics: names of log.txt and results.json.
        meters: of training, in log.txt.
        tuned: prefix of what only the fine-tuned checkpoint has.
    """

    kept: str
    metrics: tuple[str, ...]
    meters: tuple[str, ...]
    tuned: str


RECALLS = (*(f"{way}_{r}" for way in ("txt", "img") for r in ("r1", "r5", "r10", "r_mean")), "r_mean")
OF_BOTH = tuple(f"{split}_{name}" for split in ("val", "test") for name in RECALLS)
TASKS = {
    "Retrieval": Task("checkpoint_best.pth", OF_BOTH, ("loss_itm", "loss_ita"), "idx_queue"),
    "VQA": Task("checkpoint_00.pth", (), ("loss",), "text_decoder."),
    "VE": Task("checkpoint_best.pth", ("val_acc", "test_acc"), ("loss",), "cls_head."),
    "Pretrain_nlvr": Task("checkpoint_00.pth", (), ("loss",), "ta_head."),
    "NLVR": Task("checkpoint_00.pth", ("val_acc", "test_acc"), ("loss",), "cls_head."),
    "Grounding": Task("checkpoint_best.pth", ("val_d", "testA_d", "testB_d"), ("loss_itm", "loss_ita"), "idx_queue"),
}
SCORED = [name for name, task in TASKS.items() if task.metrics]


@pytest.fixture(scope="module")
def tuned(albef: AlbefLauncher) -> Callable[[str], Run]:
    """A script's run of one epoch; NLVR2's starts from its text assignment."""

    @cache
    def run(script: str) -> Run:
        start = str(run("Pretrain_nlvr").directory / "checkpoint_00.pth") if script == "NLVR" else albef.pretrained
        return albef.run(script, "--checkpoint", start)

    return run


def score(albef: AlbefLauncher, script: str, checkpoint: Path | str, *items: str) -> Run:
    return albef.run(script, "--evaluate", "--checkpoint", str(checkpoint), *items)


@pytest.mark.parametrize("script", TASKS)
def test_one_epoch(script: str, albef: AlbefLauncher, tuned: Callable[[str], Run]) -> None:
    run, task = tuned(script), TASKS[script]
    (line,) = run.log
    assert set(line) == {"train_lr", *(f"train_{meter}" for meter in task.meters), *task.metrics, "epoch"}
    check_means(run, task.meters, rounding=6e-4)
    official = run.official(task.kept)
    assert {"model", "config", "epoch"} <= set(official)
    assert any(name.startswith(task.tuned) for name in official["model"])
    before = torch.load(albef.pretrained, weights_only=True)["model"]
    key = "visual_encoder.blocks.0.attn.qkv.weight"
    assert not torch.equal(official["model"][key], before[key])
    assert torch.allclose(official["model"][key], before[key], atol=0.05)  # where it starts


@pytest.mark.parametrize("script", SCORED)
def test_a_checkpoint_scores_as_it_did_in_training(
    script: str, albef: AlbefLauncher, tuned: Callable[[str], Run]
) -> None:
    run, task = tuned(script), TASKS[script]
    checkpoint = run.directory / task.kept
    evaluation = score(albef, script, checkpoint)
    assert set(evaluation.results["metrics"]) == set(task.metrics)
    assert evaluation.results["baseline"] == "albef"
    check_scored_again(evaluation, run, checkpoint, task.metrics)


def test_zero_shot_retrieval_of_a_pre_training_checkpoint(albef: AlbefLauncher) -> None:
    """Recalls are whole numbers of the 8 images and their 16 captions."""
    results = score(albef, "Retrieval", albef.pretrained, "k_test=8").results
    assert results["items"] == {"val": 8, "test": 8} and results["splits"] == ["val", "test"]
    for split in ("val", "test"):
        for way, count in (("txt", 8), ("img", 16)):
            one, five, ten = (results["metrics"][f"{split}_{way}_{r}"] for r in ("r1", "r5", "r10"))
            assert 0 <= one <= five <= ten <= 100
            assert all(
                share * count / 100 == pytest.approx(round(share * count / 100), abs=1e-6) for share in (one, five)
            )
        assert results["metrics"][f"{split}_img_r10"] == 100  # ten of eight images


def test_questions_are_answered_from_the_list(albef: AlbefLauncher, tuned: Callable[[str], Run]) -> None:
    """In training after the last epoch, with --evaluate the same."""
    lists = albef.data / "lists"
    answers, questions = (json.loads((lists / name).read_text()) for name in ("answer_list.json", "vqa_test.json"))
    run = tuned("VQA")
    files = [
        each.directory / "result" / "vqa_result_epoch0.json"
        for each in (run, score(albef, "VQA", run.directory / "checkpoint_00.pth"))
    ]
    in_training, evaluated = (json.loads(path.read_text()) for path in files)
    assert in_training == evaluated
    assert [each["question_id"] for each in evaluated] == sorted(row["question_id"] for row in questions)
    assert {each["answer"] for each in evaluated} <= set(answers)


@pytest.mark.slow
@pytest.mark.parametrize("script", [*SCORED, "VQA"])
def test_two_processes_score_as_one(script: str, albef: AlbefLauncher, tuned: Callable[[str], Run]) -> None:
    checkpoint = tuned(script).directory / TASKS[script].kept
    first, _ = albef.on_two_processes(script, "--evaluate", "--checkpoint", str(checkpoint))
    alone = score(albef, script, checkpoint)
    assert first.results["metrics"] == pytest.approx(alone.results["metrics"])
    if script == "VQA":
        name = "result/vqa_result_epoch0.json"
        assert (first.directory / name).read_text() == (alone.directory / name).read_text()
