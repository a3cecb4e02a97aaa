"""Writes drawn scenes as RefCOCO+: expressions, objects with their boxes, and the boxes to choose from.

The boxes are those that the objects were drawn in. Source: docs/official/albef.md §3.
"""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path

from PIL import Image

from scenes.draw import pixel_box
from scenes.expressions import expressions
from scenes.layout_files import TRAINING, Record, copy, image_file, write_text
from scenes.model import Box, Scene, Thing
from scenes.readings import scene_of
from scenes.statistics import KINDS

EXPRESSIONS = 3  # of an object
DISTRACTORS = 4  # boxes beside those of the objects
OVERLAP = 0.5  # with no object has a distractor so much in common (IoU)
Pixels = tuple[int, int, int, int]  # left and upper edge, width, height


def write_refcoco(scenes: Path, records: list[Record], root: Path) -> None:
    """Write ``refcoco+/refs(unc).p``, ``instances.json`` and ``dets.json`` and the images into ``train2014``.

    Every second image of the test split is testA, the others are testB.
    """
    images: list[Record] = []
    annotations: list[Record] = []
    refs: list[Record] = []
    detections: dict[str, list[list[int]]] = {}
    for number, record in enumerate(records):
        image_id, source = record["cocoid"], image_file(scenes, record)
        name = f"COCO_train2014_{image_id:012d}.jpg"
        copy(source, root / "train2014" / name)
        with Image.open(source) as image:
            side = image.width
        images.append({"id": image_id, "file_name": name, "width": side, "height": side})
        scene, rng = scene_of(record), random.Random(f"expressions/{image_id}")
        boxes = []
        for thing in scene.things:
            for box in thing.boxes:
                boxes.append(_pixels(box, side))
                annotations.append(_annotation(len(annotations) + 1, image_id, thing, boxes[-1]))
            if thing.count == 1:
                ids = {"ref_id": len(refs), "ann_id": annotations[-1]["id"], "image_id": image_id}
                refs.append({**ids, **_ref(scene, thing, rng), "split": _split(record, number), "file_name": name})
        drawn = [*boxes, *_distractors(boxes, side, rng)]
        detections[str(image_id)] = [list(box) for box in rng.sample(drawn, len(drawn))]
    _number_sentences(refs)
    categories = [{"id": number, "name": kind} for number, kind in enumerate(KINDS, start=1)]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    write_text(root / "refcoco+/instances.json", json.dumps(instances))
    write_text(root / "refcoco+/dets.json", json.dumps(detections))
    (root / "refcoco+/refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


def overlap(first: Pixels, second: Pixels) -> float:
    """Intersection over union of two boxes."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    common = max(width, 0) * max(height, 0)
    return common / (first[2] * first[3] + second[2] * second[3] - common)


def _distractors(boxes: list[Pixels], side: int, rng: random.Random) -> list[Pixels]:
    """Draw boxes of the size of objects that hold none of them."""
    found: list[Pixels] = []
    while len(found) < DISTRACTORS:
        width, height = (rng.randint(side // 6, side // 2) for _ in range(2))
        box = rng.randint(0, side - width), rng.randint(0, side - height), width, height
        if all(overlap(box, other) < OVERLAP for other in boxes):
            found.append(box)
    return found


def _ref(scene: Scene, thing: Thing, rng: random.Random) -> Record:
    said = expressions(scene, thing, rng, EXPRESSIONS)
    sentences = [{"raw": text, "sent": text, "tokens": text.split()} for text in said]
    return {"category_id": KINDS.index(thing.kind) + 1, "sentences": sentences}


def _number_sentences(refs: list[Record]) -> None:
    number = 0
    for ref in refs:
        for sentence in ref["sentences"]:
            sentence["sent_id"] = number
            number += 1
        ref["sent_ids"] = [sentence["sent_id"] for sentence in ref["sentences"]]


def _annotation(number: int, image_id: int, thing: Thing, box: Pixels) -> Record:
    ids = {"id": number, "image_id": image_id, "category_id": KINDS.index(thing.kind) + 1}
    return {**ids, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0}


def _split(record: Record, number: int) -> str:
    if record["split"] in TRAINING:
        return "train"
    return "val" if record["split"] == "val" else ("testA", "testB")[number % 2]


def _pixels(box: Box, side: int) -> Pixels:
    x0, y0, x1, y1 = pixel_box(box, side)
    return x0, y0, x1 - x0, y1 - y0
