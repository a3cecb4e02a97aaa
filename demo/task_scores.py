"""The scores of the downstream tasks, each beside what it would be without the image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.chance import of_answers, of_boxes, of_captions, of_labels, of_training_boxes, recall_by_chance

CAPTIONS_PER_IMAGE = 2


@dataclass(frozen=True)
class Score:
    """A score of a task.

    Attributes:
        task: its name.
        metric: its name in the run's results.json.
        value, chance, blind: in percent; ``blind`` is what question, sentence or boxes alone give, None where there is
            nothing but the image to go by.
        items: questions, pairs, statements, expressions; of retrieval images.
    """

    task: str
    metric: str
    value: float
    chance: float
    blind: float | None
    items: int


def scores(task: str, run: Path, lists: Path) -> list[Score]:
    """Of the run of a task in its folder, from its results.json."""
    results = json.loads((run / "results.json").read_text())
    return _OF[task](task, results, lists)


def _retrieval(task: str, results: dict[str, Any], lists: Path) -> list[Score]:
    images, rows = results["items"]["test"], []
    for way, relevant, candidates in (("txt", CAPTIONS_PER_IMAGE, CAPTIONS_PER_IMAGE * images), ("img", 1, images)):
        for k in (1, 10):
            metric, chance = f"test_{way}_r{k}", recall_by_chance(relevant, candidates, k)
            rows.append(Score(task, metric, results["metrics"][metric], chance, None, images))
    return rows


def _accuracy(task: str, results: dict[str, Any], lists: Path) -> list[Score]:
    if task == "VQA":
        blind = of_answers(lists / "vqa_train.json", lists / "vqa_val.json")
    else:
        name = task.lower()
        blind = of_labels(lists / f"{name}_train.json", lists / f"{name}_test.json")
    value, items = results["metrics"]["test_acc"], results["items"]["test"]
    return [Score(task, "test_acc", 100 * value, 100 * blind.chance, 100 * blind.alone, items)]


def _grounding(task: str, results: dict[str, Any], lists: Path) -> list[Score]:
    files = [lists / f"refcoco+_{split}.json" for split in ("val", "test")]
    if task == "Grounding_bbox":
        found = of_training_boxes(lists, files)
    else:
        found = of_boxes(lists, lists / "refcoco+" / "dets.json", files)
    return [
        Score(
            task,
            f"{split}_d",
            100 * results["metrics"][f"{split}_d"],
            100 * blind.chance,
            100 * blind.alone,
            blind.items,
        )
        for split, blind in found.items()
    ]


def _captioning(task: str, results: dict[str, Any], lists: Path) -> list[Score]:
    folder, metrics = lists / "coco_karpathy", results["metrics"]
    drawn = of_captions(folder / "coco_karpathy_train.json", folder / "coco_karpathy_test_gt.json")
    return [
        Score(task, f"test_{name}", 100 * metrics[f"test_{name}"], 100 * drawn[name], None, results["items"]["test"])
        for name in ("CIDEr", "Bleu_4")
    ]


_OF = {
    **dict.fromkeys(("zero_shot", "Retrieval"), _retrieval),
    **dict.fromkeys(("Grounding", "Grounding_bbox"), _grounding),
    "Captioning": _captioning,
    **dict.fromkeys(("VQA", "VE", "NLVR"), _accuracy),
}
