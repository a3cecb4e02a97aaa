"""Scenes in every raw layout -> X-VLM's rows: texts, boxes and attributes are the ground truth."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import LAYOUTS, write_tasks
from scenes.words import words_for
from tests.unit.data.lists import tokenizer
from vlp.data.draws import SampleKey
from vlp.data.json.images import ImageRoot
from vlp.data.jsonl.__main__ import main
from vlp.data.jsonl.check import check_files, fields_of
from vlp.data.jsonl.convert import FilesManifest, Options, convert
from vlp.data.jsonl.plans import PLANS, WITHOUT_REFCOCO
from vlp.data.jsonl.regions import RegionReader
from vlp.data.jsonl.rows import RowImages
from vlp.data.jsonl.texts import TextReader

Row = dict[str, Any]
TRAINING = ("train", "restval")
SIDE = 48
LAYOUT = {"vg_objs": "vg", "vg_regions": "vg", "cc3m": "gcc", "refcoco_rm_leak": "refcoco+"}
LISTS = [name for name in PLANS if name not in WITHOUT_REFCOCO]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in every layout, a folder each."""
    folder = tmp_path_factory.mktemp("raw")
    write_coco(folder / "scenes", Request(train=30, val=6, test=8, captions=3, image_size=SIDE, seed=3))
    write_tasks(folder / "scenes", folder / "all", tuple(LAYOUTS))
    (folder / "scenes").rename(folder / "all/coco")
    return folder / "all"


@pytest.fixture(scope="module")
def truth(raw: Path) -> list[dict[str, Any]]:
    """The records of the images that are trained on."""
    records = [json.loads(line) for line in (raw / "coco/scenes_truth.jsonl").read_text().splitlines()]
    return [record for record in records if record["split"] in TRAINING]


@pytest.fixture(scope="module")
def manifests(raw: Path, data: Path) -> dict[str, FilesManifest]:
    options = Options(image_root=str(raw), shards=4)
    made = {name: convert(name, raw / LAYOUT.get(name, name), data, options, quiet=True) for name in LISTS}
    options = replace(options, exclude=[str(raw / "refcoco+")])
    for name in WITHOUT_REFCOCO:
        made[name] = convert(
            name, raw / LAYOUT.get(name.removesuffix("_rm_leak"), "coco_objs"), data, options, quiet=True
        )
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "data"


def rows_of(folder: Path) -> list[Row]:
    return [json.loads(line) for path in sorted(folder.iterdir()) for line in path.read_text().splitlines()]


def in_order(items: Any) -> list[Any]:
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def drawn(record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Each object of a scene: its thing, and its box in pixels."""
    for thing in record["scene"]["things"]:
        for box in thing["boxes"]:
            x0, y0, x1, y1 = (round(share * SIDE) for share in box)
            yield thing, [x0, y0, x1 - x0, y1 - y0]


def image_of(row: Row, raw: Path) -> str:
    """What is in the file that a row names."""
    return hashlib.sha256((raw / row["image_rpath"]).read_bytes()).hexdigest()


def by_image(records: list[dict[str, Any]], raw: Path) -> dict[str, dict[str, Any]]:
    files = (raw / "coco" / record["filepath"] / record["filename"] for record in records)
    return {hashlib.sha256(file.read_bytes()).hexdigest(): record for file, record in zip(files, records, strict=True)}


def test_every_data_set_gives_its_files(manifests: dict[str, FilesManifest], data: Path) -> None:
    assert {path.name for path in data.iterdir() if path.is_dir()} == set(PLANS)
    for name, manifest in manifests.items():
        saved = json.loads((data / f"{name}.manifest.json").read_text())
        assert not manifest.all_skips(), name
        assert list(manifest.files) == [f"{name}-{i:05d}-of-00004.jsonl" for i in range(4)]
        for file, record in manifest.files.items():
            content = (data / name / file).read_bytes()
            assert record.rows == content.count(b"\n") > 0 and record.bytes == len(content)
            assert record.sha256 == hashlib.sha256(content).hexdigest() == saved["files"][file]["sha256"]
        rows = rows_of(data / name)
        assert manifest.kind == ("regions" if "elems" in rows[0] else "captions")
        assert manifest.total().boxes == sum(len(row.get("elems", [])) for row in rows)
        assert saved["image_root"] == manifest.image_root and not list(data.glob(".*"))


def test_what_is_written_passes_the_check(manifests: dict[str, FilesManifest], data: Path, raw: Path) -> None:
    for name, manifest in manifests.items():
        folder = str(data / name)
        report = check_files(folder, fields_of(folder, ImageRoot(raw, "image_root"), "caption"))
        assert report.well and (report.kind, report.rows) == (manifest.kind, manifest.total().rows), name


@pytest.mark.parametrize("name", ["coco_objs", "vg_objs", "vg_regions", "refcoco_rm_leak", "obj365", "openimages"])
def test_every_row_of_regions_becomes_a_sample(
    name: str, manifests: dict[str, FilesManifest], data: Path, raw: Path
) -> None:
    texts = TextReader(tokenizer(), None, max_words=30, max_tokens=30)
    images = RowImages("image_rpath", ImageRoot(raw, "image_root"))
    read = RegionReader(images, texts, 64, 32, max_regions=5, min_perc_in_image=0.5)
    for number, row in enumerate(rows_of(data / name)):
        sample = read(row, SampleKey(0, 0, name, number), "here")
        assert 1 <= len(sample["regions"]) <= min(5, len(row["elems"]))
        assert all(max(region.target) <= 1 and min(region.target) > 0 for region in sample["regions"])


def test_coco_has_a_row_for_each_caption(
    data: Path, manifests: dict[str, FilesManifest], truth: list[dict[str, Any]]
) -> None:
    said = [
        {"image_rpath": f"coco/{record['filepath']}/{record['filename']}", "caption": caption["raw"]}
        for record in truth
        for caption in record["captions"]
    ]
    rows = rows_of(data / "coco")
    assert in_order(rows) == in_order(said)
    assert sum(a["image_rpath"] == b["image_rpath"] for a, b in pairwise(rows)) < len(rows) // 3


@pytest.mark.parametrize("name", ["sbu", "cc3m", "cc12m"])
def test_web_collections_have_a_row_for_each_image(
    name: str, data: Path, manifests: dict[str, FilesManifest], truth: list[dict[str, Any]], raw: Path
) -> None:
    images = by_image(truth, raw)
    rows = rows_of(data / name)
    assert len({row["image_rpath"] for row in rows}) == len(rows) > 0
    for row in rows:
        assert row["caption"] == images[image_of(row, raw)]["captions"][-1]["raw"]


def test_vg_has_the_phrases_of_an_image_as_its_captions(
    data: Path, manifests: dict[str, FilesManifest], truth: list[dict[str, Any]], raw: Path
) -> None:
    images, rows = by_image(truth, raw), rows_of(data / "vg")
    assert {image_of(row, raw) for row in rows} == set(images)
    for row in rows:
        phrases = list(dict.fromkeys(region["phrase"] for region in images[image_of(row, raw)]["regions"]))
        assert row["caption"] == (phrases if len(phrases) > 1 else phrases[0])


def test_vg_regions_have_their_phrases_and_boxes(
    data: Path, manifests: dict[str, FilesManifest], truth: list[dict[str, Any]], raw: Path
) -> None:
    images, rows = by_image(truth, raw), rows_of(data / "vg_regions")
    assert {image_of(row, raw) for row in rows} == set(images)
    for row in rows:
        expected = []
        for region in images[image_of(row, raw)]["regions"]:
            x0, y0, x1, y1 = (round(share * SIDE) for share in region["box"])
            expected.append({"caption": region["phrase"], "bb": [x0, y0, x1 - x0, y1 - y0]})
        assert row["elems"] == expected and set(row) == {"image_rpath", "elems"}


@pytest.mark.parametrize("name", ["coco_objs", "obj365", "openimages"])
def test_objects_have_their_class_and_box(
    name: str, data: Path, manifests: dict[str, FilesManifest], truth: list[dict[str, Any]], raw: Path
) -> None:
    images, rows = by_image(truth, raw), rows_of(data / name)
    assert {image_of(row, raw) for row in rows} == set(images)  # and none of val or test, of which COCO has boxes
    for row in rows:
        said = ((thing["kind"], box) for thing, box in drawn(images[image_of(row, raw)]))
        names = [{"caption": kind.capitalize() if name == "openimages" else kind, "bb": box} for kind, box in said]
        assert row["elems"] == names and set(row) == {"image_rpath", "elems"}


def test_vg_objects_have_all_names_and_attributes(
    data: Path, manifests: dict[str, FilesManifest], truth: list[dict[str, Any]], raw: Path
) -> None:
    images, rows = by_image(truth, raw), rows_of(data / "vg_objs")
    assert {image_of(row, raw) for row in rows} == set(images)
    for row in rows:
        for element, (thing, box) in zip(row["elems"], drawn(images[image_of(row, raw)]), strict=True):
            names, looks = list(words_for("kind", thing["kind"])), [thing["colour"]]
            looks += [value for value in (thing["size"], thing["pattern"]) if value not in ("medium", "plain")]
            assert element["bb"] == box
            assert element["caption"] == (names if len(names) > 1 else names[0])
            assert element["attributes"] == (looks if len(looks) > 1 else looks[0])


def test_refcoco_has_training_objects_with_all_their_expressions(
    data: Path, manifests: dict[str, FilesManifest], raw: Path
) -> None:
    items = {}
    for item in json.loads((raw / "refcoco+/refcoco+/instances.json").read_text())["images"]:
        items[f"refcoco+/train2014/{item['file_name']}"] = item["id"]
    refs = pickle.loads((raw / "refcoco+/refcoco+/refs(unc).p").read_bytes())
    trained = {ref["image_id"] for ref in refs if ref["split"] == "train"}
    rows = rows_of(data / "refcoco_rm_leak")
    assert {items[row["image_rpath"]] for row in rows} == trained
    for row in rows:
        said = [[s["sent"] for s in ref["sentences"]] for ref in refs if ref["image_id"] == items[row["image_rpath"]]]
        written = [e["caption"] if isinstance(e["caption"], list) else [e["caption"]] for e in row["elems"]]
        assert in_order(written) == in_order(said)


def test_rows_may_hold_the_images_themselves(
    raw: Path, tmp_path: Path, data: Path, manifests: dict[str, FilesManifest]
) -> None:
    manifest = convert("coco_objs", raw / "coco_objs", tmp_path, Options(binary=True, shards=4), quiet=True)
    assert manifest.image_root is None
    for held, named in zip(rows_of(tmp_path / "coco_objs"), rows_of(data / "coco_objs"), strict=True):
        assert base64.b64decode(held.pop("binary"), validate=True) == (raw / named.pop("image_rpath")).read_bytes()
        assert held == named


def test_rows_of_coco_objects_may_have_the_captions(raw: Path, tmp_path: Path, truth: list[dict[str, Any]]) -> None:
    convert("coco_objs", raw / "coco_objs", tmp_path, Options(image_captions=True), quiet=True)
    said = {record["filename"]: [caption["raw"] for caption in record["captions"]] for record in truth}
    for row in rows_of(tmp_path / "coco_objs"):
        assert row["caption"] == said[row["image_rpath"].split("/")[-1]]


def test_the_same_input_gives_the_same_bytes_and_another_seed_another_order(raw: Path, tmp_path: Path) -> None:
    def files(folder: str, seed: int) -> list[bytes]:
        convert("coco", raw / "coco", tmp_path / folder, Options(seed=seed, shards=3), quiet=True)
        return [path.read_bytes() for path in sorted((tmp_path / folder / "coco").iterdir())]

    first = files("a", 1)
    assert first == files("b", 1) != files("c", 2)
    assert Counter(b"".join(first).splitlines()) == Counter(b"".join(files("c", 2)).splitlines())


def test_the_command_prints_what_a_recipe_needs(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", "vg_objs", "--root", str(raw / "vg"), "--output", str(tmp_path), "--image-root", str(raw)]
    assert main([*arguments, "--shards", "2"]) == 0
    said = capsys.readouterr().out
    assert f"train_file_regions: [{tmp_path / 'vg_objs'}]" in said and f"image_root: {raw}" in said
    assert "regions: {image_key: image_rpath, is_image_rpath: True, caption_key: caption, tokenized: False}" in said
    assert main(["convert", "coco", "--root", str(raw / "coco"), "--output", str(tmp_path), "--binary"]) == 0
    said = capsys.readouterr().out
    assert "images: {image_key: binary, is_image_rpath: False, caption_key: caption, tokenized: False}" in said
    assert "image_root" not in said and "train_dataset_size: 90 rows" in said
