"""Writes what is asked and said of drawn scenes in the official raw layouts, from a folder that ``coco_layout`` wrote.

Here are ``vqa`` (VQA v2), ``nlvr2`` and ``snli`` (SNLI-VE); the others are in ``caption_layouts``, ``refcoco_layout``,
``region_layouts``.

Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from scenes.caption_layouts import write_cc12m, write_f30k, write_gcc, write_sbu, write_vg
from scenes.coco_layout import TRUTH_FILE, new_directory
from scenes.layout_files import Record, copy, image_file, json_lines, write_text
from scenes.readings import read_truth
from scenes.refcoco_layout import write_refcoco
from scenes.region_layouts import write_coco_objects, write_objects365, write_openimages

# COCO's split -> each task's; VQA's goes by the folder, as officially.
_VQA = {"train": "train2014", "restval": "val2014", "val": "val2014", "test": "test2015"}
_NLVR2 = {"train": "train", "restval": "train", "val": "dev", "test": "test1"}
_SNLI = {"train": "train", "restval": "train", "val": "dev", "test": "test"}
_DIRECTORIES = 100  # of NLVR2's training images
TASKS = ("vqa", "nlvr2", "snli")


def write_tasks(scenes: Path, root: Path, layouts: Sequence[str] = TASKS) -> None:
    """Write ``root/{layout}`` for each of ``layouts``, keys of LAYOUTS; ``root`` appears only when it is complete.

    Raises:
        FileNotFoundError: ``scenes`` is no folder of drawn scenes.
        FileExistsError: ``root`` exists.
    """
    records = read_truth(scenes / TRUTH_FILE)
    if root.exists():
        raise FileExistsError(f"{root} is already there; remove it or choose another --output")
    with new_directory(root) as fresh:
        for layout in layouts:
            LAYOUTS[layout](scenes, records, fresh / layout)


def _write_vqa(scenes: Path, records: list[Record], root: Path) -> None:
    questions: dict[str, list[Record]] = {folder: [] for folder in _VQA.values()}
    annotations: dict[str, list[Record]] = {folder: [] for folder in _VQA.values()}
    for record in records:
        folder, image = _VQA[record["split"]], record["cocoid"]
        copy(image_file(scenes, record), root / folder / f"COCO_{folder}_{image:012d}.jpg")
        for number, asked in enumerate(record["questions"]):
            ids = {"image_id": image, "question_id": 1000 * image + number}
            questions[folder].append({**ids, "question": asked["question"]})
            answers = [{"answer_id": i, "answer": answer} for i, answer in enumerate(asked["answers"], start=1)]
            chosen = {"multiple_choice_answer": asked["answer"], "answer_type": asked["answer_type"]}
            annotations[folder].append({**ids, **chosen, "answers": answers})
    for folder in questions:
        write_text(root / f"v2_OpenEnded_mscoco_{folder}_questions.json", json.dumps({"questions": questions[folder]}))
        if folder != "test2015":
            content = json.dumps({"annotations": annotations[folder]})
            write_text(root / f"v2_mscoco_{folder}_annotations.json", content)


def _write_nlvr2(scenes: Path, records: list[Record], root: Path) -> None:
    of_id = {record["cocoid"]: record for record in records}
    lines: dict[str, list[Record]] = {split: [] for split in _NLVR2.values()}
    for pair, left in enumerate(records):
        split, directory = _NLVR2[left["split"]], pair % _DIRECTORIES
        folder = root / (f"images/train/{directory}" if split == "train" else split)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{split}-{pair}-0"
        right = of_id[left["statements"][0]["right_cocoid"]]  # all statements are about the same two
        for side, record in enumerate((left, right)):
            with Image.open(image_file(scenes, record)) as image:
                image.save(folder / f"{name}-img{side}.png")
        for number, statement in enumerate(left["statements"]):
            line = {"identifier": f"{name}-{number}", "sentence": statement["sentence"]}
            line["label"] = str(statement["label"])
            lines[split].append({**line, "directory": directory} if split == "train" else line)
    for split, entries in lines.items():
        write_text(root / "nlvr2" / "data" / f"{split}.json", json_lines(entries))


def _write_snli(scenes: Path, records: list[Record], root: Path) -> None:
    lines: dict[str, list[Record]] = {split: [] for split in _SNLI.values()}
    for record in records:
        copy(image_file(scenes, record), root / "Flickr30K" / "images" / f"{record['cocoid']}.jpg")
        for entailment in record["entailments"]:
            pair = {"sentence1": entailment["premise"], "sentence2": entailment["hypothesis"]}
            ids = {"Flickr30K_ID": str(record["cocoid"]), "gold_label": entailment["label"]}
            lines[_SNLI[record["split"]]].append({**ids, **pair})
    for split, entries in lines.items():
        write_text(root / f"snli_ve_{split}.jsonl", json_lines(entries))


LAYOUTS: dict[str, Callable[[Path, list[Record], Path], None]] = {
    "vqa": _write_vqa,
    "nlvr2": _write_nlvr2,
    "snli": _write_snli,
    "f30k": write_f30k,
    "vg": write_vg,
    "gcc": write_gcc,
    "sbu": write_sbu,
    "cc12m": write_cc12m,
    "refcoco+": write_refcoco,
    "coco_objs": write_coco_objects,
    "obj365": write_objects365,
    "openimages": write_openimages,
}
