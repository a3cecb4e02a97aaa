"""Drawn scenes in the layouts of other data sets: expressions mean one object, and no test image is trained on."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from scenes.__main__ import main
from scenes.refcoco_layout import DISTRACTORS, OVERLAP, overlap
from scenes.task_layouts import LAYOUTS, write_tasks
from scenes.words import NOUNS, PATTERNS, SIZES
from vlp.data.json.convert import convert
from vlp.data.json.plans import PLANS
from vlp.data.jsonl.convert import convert as convert_regions

TRAINING = ("train", "restval")


@pytest.fixture(scope="module")
def truth(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "scenes_truth.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def raw(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts") / "raw"
    write_tasks(root, folder, tuple(LAYOUTS))
    return folder


def refs(raw: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pickle.loads((raw / "refcoco+/refcoco+/refs(unc).p").read_bytes())
    return found


def content(raw: Path, name: str) -> Any:
    return json.loads((raw / "refcoco+/refcoco+" / name).read_text())


def hashes(folder: Path) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.jpg")}


def means(expression: str, thing: dict[str, Any]) -> bool:
    """Whether the words of an expression are true of a thing; written without the words' own tables of meaning."""
    *adjectives, noun = expression.split()
    if noun not in [singular for singular, _ in NOUNS[thing["kind"]]]:
        return False
    looks = {thing["colour"], *SIZES.get(thing["size"], ()), *PATTERNS.get(thing["pattern"], ())}
    return set(adjectives) <= looks


def test_an_expression_means_one_object_of_its_image(raw: Path, truth: list[dict[str, Any]]) -> None:
    scenes = {record["cocoid"]: record["scene"]["things"] for record in truth}
    boxes = {annotation["id"]: annotation for annotation in content(raw, "instances.json")["annotations"]}
    assert len(refs(raw)) > 40
    for ref in refs(raw):
        assert 1 <= len(ref["sentences"]) <= 3
        for sentence in ref["sentences"]:
            meant = [
                thing for thing in scenes[ref["image_id"]] for _ in thing["boxes"] if means(sentence["sent"], thing)
            ]
            assert len(meant) == 1, sentence
            (corners,) = meant[0]["boxes"]
            x, y, width, height = boxes[ref["ann_id"]]["bbox"]
            assert [x, y, x + width, y + height] == pytest.approx([64 * corner for corner in corners], abs=0.51)
            assert not re.search("left|right|above|below|top|next", sentence["sent"])  # RefCOCO+ has no places


def test_ids_belong_together(raw: Path) -> None:
    found, instances = refs(raw), content(raw, "instances.json")
    assert [ref["ref_id"] for ref in found] == list(range(len(found)))
    sentences = [sentence["sent_id"] for ref in found for sentence in ref["sentences"]]
    assert sentences == list(range(len(sentences))) == [number for ref in found for number in ref["sent_ids"]]
    annotations = {annotation["id"]: annotation for annotation in instances["annotations"]}
    assert len(annotations) == len(instances["annotations"])
    for ref in found:
        assert {k: annotations[ref["ann_id"]][k] for k in ("image_id", "category_id")}.items() <= ref.items()
    for image in instances["images"]:
        assert (raw / "refcoco+/train2014" / image["file_name"]).is_file()


def test_every_object_can_be_chosen_and_no_other_box_is_one(raw: Path) -> None:
    of_image: dict[str, list[Any]] = {}
    for annotation in content(raw, "instances.json")["annotations"]:
        of_image.setdefault(str(annotation["image_id"]), []).append(annotation["bbox"])
    detections = content(raw, "dets.json")
    assert detections.keys() == of_image.keys()
    for image, boxes in detections.items():
        assert all(box in boxes for box in of_image[image])
        others = [box for box in boxes if box not in of_image[image]]
        assert len(others) == DISTRACTORS
        for other in others:
            assert other[0] >= 0 and other[1] >= 0 and other[0] + other[2] <= 64 and other[1] + other[3] <= 64
            assert all(overlap(tuple(other), tuple(box)) < OVERLAP for box in of_image[image])


def test_an_expression_split_holds_whole_images(raw: Path, truth: list[dict[str, Any]]) -> None:
    split_of = {record["cocoid"]: record["split"] for record in truth}
    images: dict[str, set[int]] = {}
    for ref in refs(raw):
        images.setdefault(ref["split"], set()).add(ref["image_id"])
        expected = {"train": TRAINING, "val": ("val",), "testA": ("test",), "testB": ("test",)}[ref["split"]]
        assert split_of[ref["image_id"]] in expected
    assert images.keys() == {"train", "val", "testA", "testB"} and not images["testA"] & images["testB"]


def test_what_models_are_pretrained_on_is_training_images_alone(
    root: Path, raw: Path, truth: list[dict[str, Any]]
) -> None:
    def of(*splits: str) -> set[str]:
        paths = (root / r["filepath"] / r["filename"] for r in truth if r["split"] in splits)
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    web = {name: hashes(raw / name) for name in ("gcc", "sbu", "cc12m")}
    assert set().union(*web.values()) == of(*TRAINING) == hashes(raw / "vg")
    assert sum(map(len, web.values())) == len(of(*TRAINING))  # an image is in one of them
    assert hashes(raw / "f30k") == of(*TRAINING, "val", "test")


def test_boxes_of_regions_are_pixels(raw: Path, truth: list[dict[str, Any]]) -> None:
    said = {record["cocoid"]: record["regions"] for record in truth}
    for image in json.loads((raw / "vg/annotations/region_descriptions.json").read_text()):
        assert [region["phrase"] for region in image["regions"]] == [r["phrase"] for r in said[image["id"]]]
        for region, true in zip(image["regions"], said[image["id"]], strict=True):
            corners = region["x"], region["y"], region["x"] + region["width"], region["y"] + region["height"]
            assert corners == pytest.approx([64 * share for share in true["box"]], abs=0.51)


def test_the_same_scenes_give_the_same_bytes(root: Path, raw: Path, tmp_path: Path) -> None:
    main(["tasks", "--scenes", str(root), "--output", str(tmp_path / "again"), "--layouts", "refcoco+", "vg"])
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"refcoco+", "vg"}
    for path in (tmp_path / "again").rglob("*.*"):
        assert path.is_dir() or path.read_bytes() == (raw / path.relative_to(tmp_path / "again")).read_bytes()


def test_the_command_writes_every_layout_for_its_converter(root: Path, tmp_path: Path) -> None:
    main(["tasks", "--scenes", str(root), "--output", str(tmp_path / "raw"), "--layouts", *LAYOUTS])
    for name, layout in (*((layout, layout) for layout in LAYOUTS if layout in PLANS), ("vg_qa", "vg")):
        manifest = convert(name, tmp_path / "raw" / layout, tmp_path / "lists", quiet=True)
        assert manifest.lists and not manifest.not_written and not manifest.all_skips(), name
        for path in (tmp_path / "lists" / made for made in manifest.lists):
            rows = json.loads(path.read_text())
            assert rows and len(rows) == manifest.lists[path.name].rows, path
    for name, layout in (*((layout, layout) for layout in LAYOUTS if layout not in PLANS), ("vg_objs", "vg")):
        regions = convert_regions(name, tmp_path / "raw" / layout, tmp_path / "files", quiet=True)
        assert regions.total().boxes and not regions.not_written and not regions.all_skips(), name


def test_objects_lie_where_they_were_drawn_and_no_test_image_is_pretrained_on(
    root: Path, raw: Path, truth: list[dict[str, Any]]
) -> None:
    paths = (root / record["filepath"] / record["filename"] for record in truth if record["split"] in TRAINING)
    training = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert hashes(raw / "obj365") == hashes(raw / "openimages") == training < hashes(raw / "coco_objs")
    things = {record["cocoid"]: record["scene"]["things"] for record in truth}
    content = json.loads((raw / "coco_objs/annotations/instances_train2014.json").read_text())
    classes = {category["id"]: category["name"] for category in content["categories"]}
    for image in content["images"]:
        drawn = [(thing["kind"], box) for thing in things[image["id"]] for box in thing["boxes"]]
        written = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        assert [classes[entry["category_id"]] for entry in written] == [kind for kind, _ in drawn]
        for entry, (_, box) in zip(written, drawn, strict=True):
            x, y, width, height = entry["bbox"]
            assert (x, y, x + width, y + height) == pytest.approx([64 * share for share in box], abs=0.51)
