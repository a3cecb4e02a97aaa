"""Every downstream script: one epoch from the pre-training checkpoint, and the scores of what it leaves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.launch.xvlm.launcher import Run, XvlmLauncher
from tests.launch.yaml_launcher import check_means, check_scored_again, ended_in_a_line
from vlp.data.jsonl.plans import WITHOUT_REFCOCO
from vlp.evaluation.referents import read_referents
from xvlm import run as run_py
from xvlm.tasks import TASKS as RUN_PY


class Task(NamedTuple):
    """What a script leaves.

    Attributes:
        kept: its official checkpoint after one epoch.
        metrics: names of log.txt and results.json.
        meters: of training, in log.txt.
        stage: the script that comes before it; empty: pre-training.
    """

    kept: str
    metrics: tuple[str, ...] = ()
    meters: tuple[str, ...] = ("loss",)
    stage: str = ""


LATEST, BEST = "model_state_epoch_latest.th", "checkpoint_best.pth"
RECALLS = (*(f"{way}_{r}" for way in ("txt", "img") for r in ("r1", "r5", "r10", "r_mean")), "r_mean")
OF_BOTH = tuple(f"{split}_{name}" for split in ("val", "test") for name in RECALLS)
WRITTEN = (*(f"Bleu_{n}" for n in range(1, 5)), "CIDEr")
BOXES, OVERLAPS = ("loss_bbox", "loss_giou"), ("val_d", "testA_d", "testB_d")
TASKS = {
    "Retrieval": Task(BEST, OF_BOTH, ("loss_itm", "loss_itc")),
    "VQA": Task("model_state_epoch_0.th"),
    "NLVR_pretrain": Task(LATEST),
    "NLVR": Task(BEST, ("val_acc", "test_acc"), stage="NLVR_pretrain"),
    "Grounding": Task(BEST, OVERLAPS, ("loss_itm", "loss_itc")),
    "Grounding_bbox_pretrain": Task(LATEST, (), BOXES),
    "Grounding_bbox": Task(BEST, OVERLAPS, BOXES, stage="Grounding_bbox_pretrain"),
    "Captioning_pretrain": Task(LATEST),
    "Captioning": Task(
        "model_state_epoch_0.th",
        tuple(f"{split}_{name}" for split in ("val", "test") for name in WRITTEN),
        stage="Captioning_pretrain",
    ),
}
LAYERS = ("text_config.num_hidden_layers=4", "text_config.fusion_layer=2")  # those of configs/tiny
SCORED = [name for name, task in TASKS.items() if task.metrics]


def everywhere(metrics: Iterable[str]) -> set[str]:
    """Those that need neither pycocoevalcap nor Java."""
    return {name for name in metrics if not name.endswith(("METEOR", "ROUGE_L"))}


@pytest.fixture(scope="module")
def tuned(xvlm: XvlmLauncher) -> Callable[[str], Run]:
    """A script's run of one epoch, after its domain stage."""

    @cache
    def run(script: str) -> Run:
        stage = TASKS[script].stage
        return xvlm.run(script, "--checkpoint", str(run(stage).directory / LATEST) if stage else xvlm.pretrained)

    return run


def score(xvlm: XvlmLauncher, script: str, checkpoint: Path | str, *items: str) -> Run:
    return xvlm.run(script, "--evaluate", "--checkpoint", str(checkpoint), *items)


@pytest.mark.parametrize("script", TASKS)
def test_one_epoch(script: str, xvlm: XvlmLauncher, tuned: Callable[[str], Run]) -> None:
    run, task = tuned(script), TASKS[script]
    (line,) = run.log
    rates = {"train_lr", *(["train_lr_large"] if script.endswith("_pretrain") else [])}
    assert everywhere(line) == {*rates, *(f"train_{meter}" for meter in task.meters), *task.metrics, "epoch"}
    check_means(run, task.meters, rounding=1e-4)
    official = run.official(task.kept)
    assert set(official) == {"model", "config"}
    before = torch.load(xvlm.pretrained, weights_only=True)["model"]
    key = "vision_encoder.layers.0.blocks.0.mlp.fc1.weight"
    assert not torch.equal(official["model"][key], before[key])
    assert torch.allclose(official["model"][key], before[key], atol=0.05)  # where it starts


@pytest.mark.parametrize("script", SCORED)
def test_a_checkpoint_scores_as_it_did_in_training(
    script: str, xvlm: XvlmLauncher, tuned: Callable[[str], Run]
) -> None:
    run, task = tuned(script), TASKS[script]
    checkpoint = run.directory / task.kept
    evaluation = score(xvlm, script, checkpoint)
    assert everywhere(evaluation.results["metrics"]) == set(task.metrics)
    assert evaluation.results["baseline"] == "xvlm"
    check_scored_again(evaluation, run, checkpoint, task.metrics)


def test_zero_shot_retrieval_of_a_pre_training_checkpoint(xvlm: XvlmLauncher) -> None:
    """Officially its text encoder would be random. Recalls are whole numbers of the 8 images and their 16 captions."""
    run = score(xvlm, "Retrieval", xvlm.pretrained, "k_test=8")
    assert "zero-shot" in run.output
    for split in ("val", "test"):
        one, ten = (run.results["metrics"][f"{split}_img_{r}"] for r in ("r1", "r10"))
        assert ten == 100 and one * 16 / 100 == pytest.approx(round(one * 16 / 100), abs=1e-6)


def test_questions_are_answered_from_the_list(xvlm: XvlmLauncher, tuned: Callable[[str], Run]) -> None:
    """In training after the last epoch, with --evaluate the same."""
    lists = xvlm.data / "lists"
    answers, questions = (json.loads((lists / name).read_text()) for name in ("answer_list.json", "vqa_test.json"))
    run = tuned("VQA")
    evaluation = score(xvlm, "VQA", run.directory / TASKS["VQA"].kept)
    in_training = json.loads((run.directory / "result" / "vqa_result_epoch0.json").read_text())
    evaluated = json.loads((evaluation.directory / "result" / "vqa_eval.json").read_text())
    assert in_training == evaluated
    assert sorted(each["question_id"] for each in evaluated) == sorted(row["question_id"] for row in questions)
    assert {each["answer"] for each in evaluated} <= set(answers)


def test_every_image_has_a_caption(xvlm: XvlmLauncher, tuned: Callable[[str], Run]) -> None:
    rows = json.loads((xvlm.data / "lists" / "coco_karpathy" / "coco_karpathy_test.json").read_text())
    written = json.loads((tuned("Captioning").directory / "result" / "test_epoch0.json").read_text())
    assert len(written) == len({each["image_id"] for each in written}) == len({row["image"] for row in rows})
    assert all(set(each) == {"image_id", "caption"} for each in written)


def test_files_of_another_stage(xvlm: XvlmLauncher, vanilla: Run) -> None:
    for script, message in (("VQA", "has no text_decoder"), ("NLVR", "has no cls_head")):
        run = xvlm.run(script, "--evaluate", "--checkpoint", xvlm.pretrained, check=False)
        ended_in_a_line(run, message)


def test_bs_is_the_batch_of_all_processes(xvlm: XvlmLauncher) -> None:
    run = xvlm.run("NLVR", "--checkpoint", xvlm.pretrained, "--bs", "8")
    assert run.config()["batch_size"] == 8


def test_boxes_from_a_checkpoint_of_epic(xvlm: XvlmLauncher, tuned: Callable[[str], Run]) -> None:
    """``run.py --task refcoco_bbox`` with the official configurations; its stage reads what it reads without EPIC."""
    own = ("epic.enabled=True", "epic.append_sep=True", "epic.masking=frequency", "max_steps=1", "schedular.epochs=1")
    epic = xvlm.run("Pretrain", *own).directory / "model_state_epoch_0.th"
    output, task = xvlm.log_dir(), RUN_PY["refcoco_bbox"]
    flags = ["--task", "refcoco_bbox", "--dist", "gpu0", "--output_dir", str(output), "--checkpoint", str(epic)]
    stage, tuning = task.commands(run_py.arguments(flags), task)
    first = xvlm.run(stage[0][:-3], *stage[1:], *LAYERS, "accelerator.FP16_OPT_LEVEL=O0", output=output)
    read = [(run.directory / "data.json").read_text() for run in (first, tuned("Grounding_bbox_pretrain"))]
    assert read[0] == read[1] and all(name in read[0] for name in WITHOUT_REFCOCO)
    second = xvlm.run(tuning[0][:-3], *tuning[1:], *LAYERS, output=Path(f"{output}_refcoco"))
    assert everywhere(second.results["metrics"]) == set(OVERLAPS)


@pytest.mark.slow
@pytest.mark.parametrize("script", [*SCORED, "VQA"])
def test_two_processes_score_as_one(script: str, xvlm: XvlmLauncher, tuned: Callable[[str], Run]) -> None:
    checkpoint = tuned(script).directory / TASKS[script].kept
    first, _ = xvlm.on_two_processes(script, "--evaluate", "--checkpoint", str(checkpoint))
    alone = score(xvlm, script, checkpoint)
    assert first.results["metrics"] == pytest.approx(alone.results["metrics"])


# VLUE ----------------------------------------------------------------------------------------------------


def score_vlue(xvlm: XvlmLauncher, task: str, checkpoint: Path, *items: str, check: bool = True) -> Run:
    """What ``run.py --task`` starts, in one process, with keys of ours and of a small model behind it."""
    output = xvlm.log_dir()
    flags = ["--task", task, "--dist", "gpu0", "--output_dir", str(output), "--checkpoint", str(checkpoint)]
    ((script, *arguments),) = RUN_PY[task].commands(run_py.arguments(flags), RUN_PY[task])
    return xvlm.run(script.removesuffix(".py"), *arguments, *LAYERS, *items, output=output, check=check)


def test_one_list_of_vlue_is_every_split(xvlm: XvlmLauncher, tuned: Callable[[str], Run]) -> None:
    for task, script, name in (("eval_vlue_itr", "Retrieval", "coco"), ("eval_vlue_nlvr", "NLVR", "nlvr")):
        path, before = xvlm.data / "lists" / f"{name}_test.json", tuned(script)
        lists = [f"{key}={path}" for key in ("train_file", "val_file", "test_file")]
        results = score_vlue(xvlm, task, before.directory / BEST, *lists).results
        names = {metric: f"test_{metric.split('_', 1)[1]}" for metric in TASKS[script].metrics}
        assert results["metrics"] == pytest.approx({name: before.results["metrics"][names[name]] for name in names})


def test_questions_of_vlue_are_answered(xvlm: XvlmLauncher, tuned: Callable[[str], Run]) -> None:
    path, before = xvlm.data / "lists" / "vqa_test.json", tuned("VQA")
    lists = (f"train_file={path}", f"test_file={path}")
    run = score_vlue(xvlm, "eval_vlue_vqa", before.directory / TASKS["VQA"].kept, *lists, "num_dec_layers=2")
    answers = json.loads((run.directory / "result" / "vqa_eval.json").read_text())
    assert answers == json.loads((before.directory / "result" / "vqa_result_epoch0.json").read_text())


@pytest.mark.parametrize(
    ("task", "script", "needs", "further"),
    [
        ("eval_vlue_refcoco", "Grounding_bbox", "bbox", ()),
        ("eval_vlue_refcoco_weakly", "Grounding", "dets", ("--block_num", "2")),
    ],
)
def test_lists_of_vlue_bring_their_boxes_along(
    task: str,
    script: str,
    needs: str,
    further: tuple[str, ...],
    xvlm: XvlmLauncher,
    tuned: Callable[[str], Run],
    tmp_path: Path,
) -> None:
    """The score of RefCOCO+'s phrases; a detector's boxes are there only where the script chooses among them."""
    lists, path, splits = xvlm.data / "lists", tmp_path / "vlue.json", Counter[str]()
    found = read_referents(lists, lists / "refcoco+" / "dets.json")
    rows = [row for split in ("val", "test") for row in json.loads((lists / f"refcoco+_{split}.json").read_text())]
    for row in rows:
        split, box, proposals, width, height = found[row["ref_id"]]
        row |= {"bbox": box, "width": width, "height": height, **({"dets": proposals} if needs == "dets" else {})}
        splits[split] += 1
    path.write_text(json.dumps(rows))
    before = tuned(script)
    detections = ["det_file="] if needs == "dets" else []
    items = [f"train_file={path}", f"test_file={path}", "refcoco_data=", *detections, *further]
    run = score_vlue(xvlm, task, before.directory / BEST, *items)
    correct = sum(before.results["metrics"][f"{split}_d"] * count for split, count in splits.items())
    assert run.results["metrics"] == {"score": pytest.approx(correct / len(rows))}
    (line,) = run.log
    assert float(line["score"]) == pytest.approx(correct / len(rows), abs=1e-4)
    path.write_text(json.dumps([{key: value for key, value in row.items() if key != needs} for row in rows]))
    ended_in_a_line(
        score_vlue(xvlm, task, before.directory / BEST, *items, check=False), "vlue.json, row 0: expected ref_id, bbox"
    )
