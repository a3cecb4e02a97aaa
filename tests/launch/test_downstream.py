"""VQAv2, NLVR2 and SNLI-VE through the launcher: fine-tuned from a pre-training checkpoint, then evaluated."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scenes.task_layouts import TASKS, write_tasks
from tests.launch.launcher import SHARED_CODE, Launcher, Result
from vlp.checkpoint.loading import load_into
from vlp.data.arrow.convert import make_arrow
from vlp.sacred_dialect.baseline import SacredBaseline, sacred_baselines

METRIC = {"vqa": "score", "nlvr2": "accuracy", "snli": "accuracy"}


TASKS_OF = {
    name: [task for task in TASKS if task in baseline.datamodule.specs] for name, baseline in sacred_baselines().items()
}
TRANSFORM = {"meter": "clip", "vilt": "pixelbert"}
DECIDING_SPLIT = {"meter": "dev", "vilt": "test"}  # of NLVR2 and SNLI-VE: its accuracy selects the model
BODY = {
    "meter": "cross_modal_text_layers.0.attention.self.query.weight",
    "vilt": "transformer.blocks.0.attn.qkv.weight",
}


@pytest.fixture(scope="session", autouse=True)
def tables(data: Path) -> None:
    """The tables of all three tasks beside COCO's."""
    write_tasks(data / "raw", data / "tasks")
    for task in TASKS:
        make_arrow(task, data / "tasks" / task, data / "arrow")


def command(launcher: Launcher, task: str, *items: str) -> list[str]:
    last = ("val_check_interval=1.0", "drop_rate=0.0", f"train_transform_keys=['{TRANSFORM[launcher.name]}_randaug']")
    return [*launcher.finetuning(task), *launcher.items(f"datasets=['{task}']", *last, *items)]


@pytest.fixture(scope="module")
def finetuned(launcher: Launcher, vanilla: Result) -> dict[str, Result]:
    """Each task fine-tuned for one epoch of whatever length, from the vanilla pre-training."""
    last = ("max_steps=None", "max_epoch=1", "per_gpu_batchsize=32", "batch_size=32", f"load_path={vanilla.checkpoint}")
    return {task: launcher.run(*command(launcher, task, *last)) for task in TASKS_OF[launcher.name]}


def evaluate(launcher: Launcher, task: str, checkpoint: object, *items: str, check: bool = True) -> Result:
    last = ("test_only=True", f"load_path={checkpoint}", *items)
    return launcher.run(*command(launcher, task, *last), check=check)


@torch.no_grad()
def plain_logits(baseline: SacredBaseline, config: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Each test sample with its logits: one full pass per image, one sample at a time."""
    datamodule, task = baseline.datamodule(config), config["datasets"][0]
    model: Any = baseline.model(config).eval()
    load_into(model, config["load_path"], baseline.layout)
    dataset = datamodule.dataset(task, "test")
    for i in range(len(dataset)):
        batch = datamodule.collate([dataset[i]])
        image_types = (1, 2) if task == "nlvr2" else (1,)
        passes = [model.infer(batch, image_token_type_idx=kind)["cls_feats"] for kind in image_types]
        yield dataset[i], getattr(model, f"{task}_classifier")(torch.cat(passes, dim=1))[0]


@pytest.mark.parametrize("task", ["vqa", "nlvr2"])
def test_fine_tuning(task: str, launcher: Launcher, finetuned: dict[str, Result]) -> None:
    is_fine_tuned(task, launcher, finetuned[task])


@SHARED_CODE
def test_fine_tuning_on_snli(launcher: Launcher, finetuned: dict[str, Result]) -> None:
    is_fine_tuned("snli", launcher, finetuned["snli"])


def is_fine_tuned(task: str, launcher: Launcher, run: Result) -> None:
    """The run has the task's logs, and its head on top of what pre-training left."""
    assert run.directory.parent.name == f"finetune_{task}_seed0_from_last"
    losses = run.values(f"{task}/train/loss")
    assert len(losses) == len(run.values(f"{task}/train/{METRIC[task]}")) > 1 and all(map(math.isfinite, losses))
    for part in ("dev", "test") if task != "vqa" else ("val",):
        for quantity in ("loss", METRIC[task]):
            assert len(run.values(f"{task}/{part}/{quantity}_epoch")) == 1
    split = "val" if task == "vqa" else DECIDING_SPLIT[launcher.name]
    measured = run.values(f"{task}/{split}/{METRIC[task]}_epoch")
    assert run.values("val/the_metric") == pytest.approx(measured)
    before, after = (torch.load(r.checkpoint, weights_only=True)["state_dict"] for r in (launcher.vanilla, run))
    assert [key for key in after if key.startswith(f"{task}_classifier.")] == list(after)[-6:]
    assert not any(key.startswith(("mlm_score", "itm_score")) for key in after)
    types = [state["token_type_embeddings.weight"] for state in (before, after)]
    assert len(types[1]) == (3 if task == "nlvr2" else 2)
    body = BODY[launcher.name]
    assert not torch.equal(after[body], before[body])
    assert torch.allclose(types[1], types[0][[0, 1, 1]][: len(types[1])], atol=0.05)  # where it starts
    assert "[load] not in the file, left as built: " + f"{task}_classifier" in run.output


def test_accuracies_are_those_of_plain_passes(launcher: Launcher, finetuned: dict[str, Result]) -> None:
    for task in finetuned.keys() - {"vqa"}:
        run = evaluate(launcher, task, finetuned[task].checkpoint)
        metrics = json.loads((run.directory / "results.json").read_text())["metrics"]
        right: dict[str, list[bool]] = {"dev": [], "test": []}
        for sample, logits in plain_logits(launcher.baseline, run.config()):
            part = "dev" if "dev" in sample["table_name"] else "test"
            right[part].append(int(logits.argmax()) == int(sample["answers" if task == "nlvr2" else "labels"]))
        for part, hits in right.items():
            assert hits and metrics[f"{task}/{part}/accuracy_epoch"] == pytest.approx(sum(hits) / len(hits)), part
        deciding = metrics[f"{task}/{DECIDING_SPLIT[launcher.name]}/accuracy_epoch"]
        assert metrics["val/the_metric"] == pytest.approx(deciding)


def test_questions_are_answered_in_the_file_of_the_evaluation_server(
    launcher: Launcher, finetuned: dict[str, Result]
) -> None:
    run = evaluate(launcher, "vqa", finetuned["vqa"].checkpoint)
    path = run.log_dir / "vqa_submit_last.json"
    results = json.loads((run.directory / "results.json").read_text())
    assert (results["submission"], results["metrics"]) == (str(path), {})
    baseline, config = launcher.baseline, run.config()
    answers = baseline.datamodule(config).answers
    logits_of = {sample["qid"]: logits for sample, logits in plain_logits(baseline, config)}
    expected = {qid: answers.get(int(logits.argmax()), "unknown") for qid, logits in logits_of.items()}
    written = json.loads(path.read_text())
    assert results["questions"] == len(written) == len(expected)
    assert written == [{"question_id": qid, "answer": expected[qid]} for qid in sorted(expected)]
    assert len(set(expected.values()) - {"unknown"}) > 0


@SHARED_CODE
def test_a_checkpoint_without_the_head_cannot_be_evaluated(launcher: Launcher, vanilla: Result) -> None:
    run = evaluate(launcher, "nlvr2", vanilla.checkpoint, check=False)
    assert run.status == 1 and not list(run.log_dir.glob("*"))
    assert f"error: {vanilla.checkpoint} has no nlvr2_classifier: fine-tune it for this task first" in run.output


@SHARED_CODE
def test_more_answers_than_the_head_has(launcher: Launcher) -> None:
    run = launcher.run(*command(launcher, "vqa", "vqav2_label_size=2"), check=False)
    assert run.status == 1 and "vqav2_label_size=2, but the tables of vqa have" in run.output


@pytest.mark.slow
@SHARED_CODE
def test_two_processes_answer_every_question_once(launcher: Launcher, finetuned: dict[str, Result]) -> None:
    written = []
    for count in (1, 2):
        last = ("test_only=True", f"load_path={finetuned['vqa'].checkpoint}", f"num_gpus={count}")
        run = launcher.cold(*command(launcher, "vqa", *last, "per_gpu_batchsize=7"))
        written.append((run.log_dir / "vqa_submit_last.json").read_text())
    assert written[0] == written[1]
