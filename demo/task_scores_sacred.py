"""The scores of the downstream tasks of METER and ViLT, and what the words alone give.

VQAv2's test questions are answered in the file for the evaluation server, whose part the truth of the scenes plays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo.chance import Answered, Labelled, of_answers, of_labels
from demo.task_scores import Score, beside_blind, recall_scores
from scenes.layout_files import TRAINING
from vlp.data.json.text import pre_caption, pre_question
from vlp.evaluation.vqa import answer_accuracy
from vlp.files import read_json, regular

RECALLS = {"tr": "recalls/tr_r{}", "ir": "recalls/ir_r{}"}
TOLD = {"NLVR": ("nlvr2", "statements", "sentence"), "VE": ("snli", "entailments", "hypothesis")}
Records = list[dict[str, Any]]


def scores(task: str, run: Path, truth: Path) -> list[Score]:
    """Of the run in whose folder a task is tested, from its results.json.

    Args:
        truth: the scenes' file of what is in them.
    """
    newest = max(run.rglob("results.json"), key=lambda path: path.stat().st_mtime_ns)
    results, records = read_json(newest), [json.loads(line) for line in regular(truth).read_text().splitlines()]
    asked = [record for record in records if record["split"] == "test"]
    learnt = [record for record in records if record["split"] in TRAINING]
    if task in TOLD:
        return [_accuracy(task, results["metrics"], learnt, asked)]
    if task == "VQA":
        return [_answers(read_json(Path(results["submission"])), learnt, asked)]
    percent = {name: 100 * value for name, value in results["metrics"].items() if name.startswith("recalls/")}
    return recall_scores(task, RECALLS, percent, len(asked))


def _accuracy(task: str, metrics: Mapping[str, float], learnt: Records, asked: Records) -> Score:
    name, told, text = TOLD[task]

    def read(records: Records) -> list[Labelled]:
        return [Labelled(pre_caption(each[text]), str(each["label"])) for record in records for each in record[told]]

    metric = f"{name}/test/accuracy_epoch"
    return beside_blind(task, metric, metrics[metric], of_labels(read(learnt), read(asked)))


def _answers(submission: Records, learnt: Records, asked: Records) -> Score:
    given = {each["question_id"]: each["answer"] for each in submission}

    def read(records: Records) -> list[Answered]:
        return [
            Answered(pre_question(each["question"]), each["answers"])
            for record in records
            for each in record["questions"]
        ]

    accuracies = [
        answer_accuracy(given[1000 * record["cocoid"] + number], each["answers"])
        for record in asked
        for number, each in enumerate(record["questions"])
    ]
    return beside_blind("VQA", "submission", sum(accuracies) / len(accuracies), of_answers(read(learnt), read(asked)))
