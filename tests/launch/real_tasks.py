"""Questions, statements and hypotheses of people about real photos, in the raw layouts of VQA v2, NLVR2 and SNLI-VE.

The folder that ``EPIC_REAL_PAIRS`` names holds them beside the captions, one a line:

* ``vqa.jsonl``: ``image``, ``split``, ``question``, ``answers`` (ten, or one), ``multiple_choice_answer``;
* ``nlvr2.jsonl``: ``images`` (left, right), ``split``, ``sentence``, ``label`` ("True", "False"), ``identifier``;
* ``ve.jsonl``: ``image``, ``split``, ``hypothesis``, ``label``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

VQA = {"train": "train2014", "val": "val2014", "test": "test2015"}
NLVR2 = {"train": "train", "val": "dev", "test": "test1"}
SNLI = {"train": "train", "val": "dev", "test": "test"}
Rows = list[dict[str, Any]]


class Said(NamedTuple):
    """A text about a photo, or about two of which the left one stands here, as it must come out of the tables.

    Attributes:
        split: its own, "train", "val" or "test".
        image: the bytes of the raw layout's file.
        answers: all answers, or the one label.
    """

    split: str
    image: bytes
    text: str
    answers: tuple[str, ...]


def write_vqa(photos: Path, root: Path) -> list[Said]:
    """VQA v2: a file of questions and one of annotations a split, without the latter for the test split."""
    rows = [row for row in _rows(photos / "vqa.jsonl") if "answers" in row]
    numbers = {image: number for number, image in enumerate(sorted({row["image"] for row in rows}), start=1)}
    said = []
    for split, folder in VQA.items():
        questions, annotations = Rows(), Rows()
        for number, row in enumerate(rows):
            if row["split"] != split:
                continue
            image = numbers[row["image"]]
            file = _copied(photos / row["image"], root / folder / f"COCO_{folder}_{image:012d}.jpg")
            ids = {"image_id": image, "question_id": number}
            questions.append({**ids, "question": row["question"]})
            answers = [{"answer_id": i, "answer": answer} for i, answer in enumerate(row["answers"], start=1)]
            annotations.append({**ids, "multiple_choice_answer": row["multiple_choice_answer"], "answers": answers})
            said.append(Said(split, file.read_bytes(), row["question"], tuple(row["answers"])))
        _write_json(root / f"v2_OpenEnded_mscoco_{folder}_questions.json", {"questions": questions})
        if split != "test":
            _write_json(root / f"v2_mscoco_{folder}_annotations.json", {"annotations": annotations})
    return said


def write_nlvr2(photos: Path, root: Path) -> list[Said]:
    """NLVR2: JSON lines of each split, and two PNG files of each pair."""
    rows, said = _rows(photos / "nlvr2.jsonl"), []
    for split, name in NLVR2.items():
        lines = Rows()
        for row in (row for row in rows if row["split"] == split):
            pair = row["identifier"].rpartition("-")[0]
            folder = root / ("images/train/0" if split == "train" else name)
            files = [folder / f"{pair}-img{side}.png" for side in (0, 1)]
            folder.mkdir(parents=True, exist_ok=True)
            for image, file in zip(row["images"], files, strict=True):
                with Image.open(photos / image) as opened:
                    opened.save(file)
            kept = {key: row[key] for key in ("identifier", "sentence", "label")}
            lines.append({**kept, "directory": 0} if split == "train" else kept)
            said.append(Said(split, files[0].read_bytes(), row["sentence"], (row["label"],)))
        _write_lines(root / "nlvr2" / "data" / f"{name}.json", lines)
    return said


def write_snli(photos: Path, root: Path) -> list[Said]:
    """SNLI-VE: JSON lines of each split; a premise, which nobody reads, is a caption of the photo."""
    captions = {row["image"]: row["captions"][0] for row in _rows(photos / "captions.jsonl") if row["captions"]}
    rows, said = _rows(photos / "ve.jsonl"), []
    for split, name in SNLI.items():
        lines = Rows()
        for row in (row for row in rows if row["split"] == split):
            photo = photos / row["image"]
            file = _copied(photo, root / "Flickr30K" / "images" / f"{photo.stem}.jpg")
            pair = {"sentence1": captions[row["image"]], "sentence2": row["hypothesis"]}
            lines.append({"Flickr30K_ID": photo.stem, **pair, "gold_label": row["label"]})
            said.append(Said(split, file.read_bytes(), row["hypothesis"].strip(), (row["label"],)))
        _write_lines(root / f"snli_ve_{name}.jsonl", lines)
    return said


WRITERS: dict[str, Callable[[Path, Path], list[Said]]] = {"vqa": write_vqa, "nlvr2": write_nlvr2, "snli": write_snli}


def check_whole_number(share: float, items: int) -> None:
    """Whether ``share`` of ``items`` is what a count of them gives."""
    assert 0 <= share <= 1
    assert abs(share * items - round(share * items)) < 1e-3, (share, items)


def check_falls(losses: list[float], most: float) -> None:
    """Whether the mean of the last tenth is below ``most`` of the first tenth's."""
    tenth = max(len(losses) // 10, 1)
    assert sum(losses[-tenth:]) < most * sum(losses[:tenth]), losses


def _copied(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copyfile(source, target)
    return target


def _rows(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
