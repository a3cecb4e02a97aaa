"""The scores of the downstream tasks of ALBEF and X-VLM, and what their JSON lists give without the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from demo.chance import Answered, Blind, Labelled, of_answers, of_boxes, of_captions, of_labels, of_training_boxes
from demo.task_scores import Score, beside_blind, recall_scores
from vlp.data.json.text import pre_caption, pre_question
from vlp.files import read_json

RECALLS = {"tr": "test_txt_r{}", "ir": "test_img_r{}"}


def scores(task: str, run: Path, lists: Path) -> list[Score]:
    """Of the run of a task in its folder, from its results.json."""
    results = read_json(run / "results.json")
    return _OF[task](task, results, lists)


def of_listed_labels(train: Path, test: Path) -> Blind:
    """SNLI-VE, NLVR2: the most frequent label, and what the sentence's words say."""

    def read(path: Path) -> list[Labelled]:
        return [Labelled(pre_caption(row["sentence"]), row["label"]) for row in _rows(path)]

    return of_labels(read(train), read(test))


def of_listed_answers(train: Path, test: Path) -> Blind:
    """VQA: the most frequent answer, and what the question's words say."""

    def read(path: Path) -> list[Answered]:
        return [Answered(pre_question(row["question"]), row["answer"]) for row in _rows(path)]

    return of_answers(read(train), read(test))


def _retrieval(task: str, results: dict[str, Any], lists: Path) -> list[Score]:
    return recall_scores(task, RECALLS, results["metrics"], results["items"]["test"])


def _accuracy(task: str, results: dict[str, Any], lists: Path) -> list[Score]:
    if task == "VQA":
        blind = of_listed_answers(lists / "vqa_train.json", lists / "vqa_val.json")
    else:
        name = task.lower()
        blind = of_listed_labels(lists / f"{name}_train.json", lists / f"{name}_test.json")
    return [beside_blind(task, "test_acc", results["metrics"]["test_acc"], blind)]


def _grounding(task: str, results: dict[str, Any], lists: Path) -> list[Score]:
    files = [lists / f"refcoco+_{split}.json" for split in ("val", "test")]
    if task == "Grounding_bbox":
        found = of_training_boxes(lists, lists / "refcoco+_train.json", files)
    else:
        found = of_boxes(lists, lists / "refcoco+" / "dets.json", files)
    return [beside_blind(task, f"{split}_d", results["metrics"][f"{split}_d"], blind) for split, blind in found.items()]


def _captioning(task: str, results: dict[str, Any], lists: Path) -> list[Score]:
    folder, metrics = lists / "coco_karpathy", results["metrics"]
    drawn = of_captions(folder / "coco_karpathy_train.json", folder / "coco_karpathy_test_gt.json")
    return [
        Score(task, f"test_{name}", 100 * metrics[f"test_{name}"], 100 * drawn[name], None, results["items"]["test"])
        for name in ("CIDEr", "Bleu_4")
    ]


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_json(path)
    return rows


_OF = {
    **dict.fromkeys(("zero_shot", "Retrieval"), _retrieval),
    **dict.fromkeys(("Grounding", "Grounding_bbox"), _grounding),
    "Captioning": _captioning,
    **dict.fromkeys(("VQA", "VE", "NLVR"), _accuracy),
}
