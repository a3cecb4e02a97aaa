"""The score of the fine-tuned task, from what its official run leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from demo.page import read_metrics
from demo.task_recipes_yaml import lists
from demo.task_scores_yaml import of_listed_answers
from reproduce.miniature.places import Bench
from vlp.files import read_json

TESTED = "nlvr2/test/accuracy_epoch"  # METER and ViLT score NLVR2's test statements in every validation
HALF = 50.0  # of two statements about a pair one is true


def fine_tuned_score(bench: Bench, run: Path) -> dict[str, Any]:
    """``{"task": …, "accuracy": …, "chance": …}`` in per cent, of the last epoch."""
    task = bench.task
    if bench.is_sacred:
        (path,) = run.rglob("metrics.jsonl")
        found = [line[TESTED] for line in read_metrics(path) if TESTED in line]
        return {"task": task, "accuracy": round(100 * found[-1], 4), "chance": HALF}
    accuracy = read_json(run / "results.json")["metrics"]["test_acc"]
    folder = lists(bench.tasks(0))
    chance = of_listed_answers(folder / "vqa_train.json", folder / "vqa_val.json").chance
    return {"task": task, "accuracy": round(100 * accuracy, 4), "chance": round(100 * chance, 4)}
