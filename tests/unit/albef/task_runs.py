"""Small real runs of every script of ALBEF on JSON lists, built as the launcher builds them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from albef.baseline import BASELINE
from albef.config import COMMANDS
from tests.unit import yaml_runs
from tests.unit.albef import small_runs
from tests.unit.albef.small_runs import PAIRS, WORDS
from tests.unit.data.raw import image_bytes
from vlp.config.schema import defaults
from vlp.yaml_dialect.command_line import merged
from vlp.yaml_dialect.run import Built

ROWS, TESTED = 26, 6
ANSWERS = [*WORDS[:6], "w7 w8"]
# Script -> row i of its training list, and of its evaluation lists.
TRAIN: dict[str, Callable[[int], dict[str, Any]]] = {
    "Retrieval": lambda i: {"image": f"{i}.png", "caption": words(i), "image_id": i // 2},
    "VQA": lambda i: {
        **{"dataset": "vqa", "image": f"{i}.png", "question": words(i), "question_id": i},
        "answer": ANSWERS[: 1 + i % 3],
    },
    "VE": lambda i: {"image": str(i), "sentence": words(i), "label": ("contradiction", "neutral", "entailment")[i % 3]},
    "NLVR": lambda i: {
        **{"images": [f"{i}.png", f"{(i + 5) % PAIRS}.png"], "sentence": words(i)},
        "label": ("True", "False")[i % 2],
    },
    "Pretrain_nlvr": lambda i: {"image": f"{i}.png", "caption": words(i)},
    "Grounding": lambda i: {"image": f"{i}.png", "text": words(i)},
}
TEST: dict[str, Callable[[int], dict[str, Any]]] = {
    **TRAIN,
    "Retrieval": lambda i: {"image": f"{i}.png", "caption": [words(i), words(i + 1)]},
    "Grounding": lambda i: {"image": f"{i}.png", "text": words(i), "ref_id": i},
}
SCRIPTS = ("Pretrain", *TRAIN)


def words(i: int) -> str:
    """1 to 10 words of the tokenizer's vocabulary."""
    return " ".join(WORDS[: 1 + 3 * i % len(WORDS)])


def write_data(folder: Path) -> None:
    """What :func:`small_runs.write_data` writes, and the lists of every script."""
    small_runs.write_data(folder)
    for i in range(PAIRS):
        (folder / f"{i}.jpg").write_bytes(image_bytes(i))  # VE's names have no suffix
    for script in TRAIN:
        for name, row, rows in (("train", TRAIN[script], ROWS), ("test", TEST[script], TESTED)):
            (folder / f"{script}_{name}.json").write_text(json.dumps([row(i) for i in range(rows)]), encoding="utf-8")
    (folder / "answers.json").write_text(json.dumps(ANSWERS), encoding="utf-8")
    write_references(folder)


def write_references(folder: Path) -> None:
    """RefCOCO+'s references of the tested rows, two in each split of an evaluation."""
    numbers = range(TESTED)
    refs: list[dict[str, Any]] = [
        {"ref_id": i, "ann_id": i, "image_id": i, "split": ("val", "testA", "testB")[i % 3], "sentences": []}
        for i in numbers
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in numbers]
    boxes = [{"id": i, "bbox": [i, 1, 15, 12]} for i in numbers]
    (folder / "refcoco+").mkdir()
    (folder / "refcoco+/refs(unc).p").write_bytes(pickle.dumps(refs))
    (folder / "refcoco+/instances.json").write_text(json.dumps({"images": images, "annotations": boxes}))
    (folder / "dets.json").write_text(json.dumps({str(i): [[0, 0, 20, 20], [20, 10, 15, 15]] for i in numbers}))


def config_of(script: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """The config of a run on :func:`write_data`'s folder: two epochs of six batches of four samples."""
    sizes = small_runs.config_of(folder)
    if script == "Pretrain":
        return merged(sizes, changes)
    schema = COMMANDS[script].schema
    keys = {name: value for name, value in sizes.items() if name in schema.model_fields}
    keys |= {"train_file": [str(folder / f"{script}_train.json")], "output_dir": str(folder / "run")}
    own = {"image_res": 32, "checkpoint": "", "text_decoder": str(folder), "answer_list": str(folder / "answers.json")}
    own |= {key: [str(folder / f"{script}_test.json")] for key in ("val_file", "test_file")}
    own |= {"batch_size_train": 4, "batch_size_test": 4, "k_test": 4, "block_num": 2, "alpha": 0.4}
    own |= {"refcoco_data": str(folder), "det_file": str(folder / "dets.json")}
    keys |= {name: value for name, value in own.items() if name in schema.model_fields}
    for block in ("optimizer", "schedular"):
        keys[block] = {**defaults(schema)[block], **({"epochs": 2} if block == "schedular" else {})}
    return merged(merged(defaults(schema), keys), changes)


def built(script: str, config: dict[str, Any]) -> Built:
    """What the launcher builds."""
    return yaml_runs.built(BASELINE, script, config)


def trained(script: str, config: dict[str, Any]) -> Built:
    """A run to its end."""
    return yaml_runs.trained(BASELINE, script, config)
