"""Writes drawn scenes in the raw layouts of Flickr30k, Visual Genome, CC3M, SBU and CC12M.

Those that models are pre-trained on hold training images alone. Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from scenes.coco_layout import karpathy_image
from scenes.draw import pixel_box
from scenes.layout_files import TRAINING, Record, copy, image_file, write_text
from scenes.model import Box
from scenes.region_layouts import write_vg_objects

# A training image is in one of the web collections: number modulo 8 -> split of CC3M, or all of the others.
_GCC, _SBU, _CC12M = {"train": (0, 1, 2), "val": (3,)}, {"train": (4, 5)}, {"train": (6, 7)}
_FOLDERS = 10


def write_f30k(scenes: Path, records: list[Record], root: Path) -> None:
    """Flickr30k with Karpathy's splits; training is COCO's train and restval."""
    images = []
    for number, record in enumerate(records):
        name = f"{record['cocoid']}.jpg"
        copy(image_file(scenes, record), root / "flickr30k-images" / name)
        split = "train" if record["split"] in TRAINING else record["split"]
        captions = {caption["sentid"]: caption["raw"] for caption in record["captions"]}
        images.append(karpathy_image(name, split, number, captions))
    content = json.dumps({"images": images, "dataset": "flickr30k"})
    write_text(root / "karpathy/dataset_flickr30k.json", content)


def write_vg(scenes: Path, records: list[Record], root: Path) -> None:
    """Visual Genome: regions, objects and questions; boxes in pixels; answers are written as sentences ("Red.")."""
    regions, questions = [], []
    for number, record in enumerate(_training(records)):
        image_id, source = record["cocoid"], image_file(scenes, record)
        copy(source, root / "images" / ("VG_100K", "VG_100K_2")[number % 2] / f"{image_id}.jpg")
        with Image.open(source) as image:
            side = image.width
        regions.append({"id": image_id, "regions": [_region(image_id, region, side) for region in record["regions"]]})
        asked = [
            {
                "image_id": image_id,
                "qa_id": 1000 * image_id + place,
                "question": question["question"],
                "answer": question["answer"].capitalize() + ".",
            }
            for place, question in enumerate(record["questions"])
        ]
        questions.append({"id": image_id, "qas": asked})
    write_text(root / "annotations/region_descriptions.json", json.dumps(regions))
    write_text(root / "annotations/question_answers.json", json.dumps(questions))
    write_vg_objects(scenes, _training(records), root)


def write_gcc(scenes: Path, records: list[Record], root: Path) -> None:
    """CC3M: train and val."""
    for split, part in _GCC.items():
        _write_web(scenes, records, root, part, split, f"{split}_annot.json")


def write_sbu(scenes: Path, records: list[Record], root: Path) -> None:
    """SBU."""
    _write_web(scenes, records, root, _SBU["train"], "train", "annot.json")


def write_cc12m(scenes: Path, records: list[Record], root: Path) -> None:
    """CC12M."""
    _write_web(scenes, records, root, _CC12M["train"], "train", "train_annot.json")


def _write_web(
    scenes: Path, records: list[Record], root: Path, part: tuple[int, ...], split: str, annotation: str
) -> None:
    """Write [path, caption] of the training images whose number modulo 8 is in ``part``, and the images."""
    pairs = []
    for number, record in enumerate(_training(records)):
        if number % 8 in part:
            place = f"{number % _FOLDERS:04d}/{record['cocoid']:09d}.jpg"
            copy(image_file(scenes, record), root / f"images_{split}" / place)
            pairs.append([place, record["captions"][-1]["raw"]])
    write_text(root / annotation, json.dumps(pairs))


def _training(records: list[Record]) -> list[Record]:
    return [record for record in records if record["split"] in TRAINING]


def _region(image_id: int, region: Record, side: int) -> Record:
    x0, y0, x1, y1 = pixel_box(Box(*region["box"]), side)
    return {"image_id": image_id, "phrase": region["phrase"], "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
