"""Boxes and images that do not serve are left out by name; a conversion that breaks off goes on, and loses nothing."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.odd import ODD, places, replaced
from tests.unit.data.raw import image_bytes, write
from vlp.data.errors import DataError
from vlp.data.jsonl import convert as converting
from vlp.data.jsonl.__main__ import main
from vlp.data.jsonl.convert import FilesManifest, Options, convert
from vlp.data.jsonl.made_rows import pixel_box

NAMES = [f"COCO_train2014_{i:012d}.jpg" for i in range(6)]
BOX = [10.0, 5.0, 20.0, 10.0]


def karpathy(root: Path, splits: dict[str, str] | None = None) -> None:
    """Six images of 40 x 30 pixels with captions, all of the training split unless ``splits`` says otherwise."""
    images = [
        {"filename": name, "split": (splits or {}).get(name, "train"), "sentences": [{"raw": f"image {name[-5]}"}]}
        for name in NAMES
    ]
    write(root / "karpathy/dataset_coco.json", json.dumps({"images": images}))
    for number, name in enumerate(NAMES):
        write(root / "train2014" / name, image_bytes(number))


def instances(boxes: dict[int, list[Any]], sizes: dict[int, tuple[int, int]] | None = None) -> dict[str, Any]:
    """COCO's format: image -> boxes of class cat; annotations stand before images, which may be."""
    annotations = [
        {"id": 10 * image + i, "image_id": image, "category_id": 3, "bbox": box, "iscrowd": 0}
        for image, found in boxes.items()
        for i, box in enumerate(found)
    ]
    images = []
    for number, name in enumerate(NAMES):
        width, height = (sizes or {}).get(number, (40, 30))
        images.append({"id": number, "file_name": name, "width": width, "height": height})
    return {"annotations": annotations, "images": images, "categories": [{"id": 3, "name": "cat"}]}


def coco(root: Path, content: dict[str, Any]) -> None:
    karpathy(root)
    write(root / "annotations/instances_train2014.json", json.dumps(content))
    write(root / "annotations/instances_val2014.json", json.dumps({"images": [], "annotations": [], "categories": []}))


def converted(
    root: Path, output: Path, name: str = "coco_objs", **options: Any
) -> tuple[FilesManifest, dict[str, Any]]:
    """The manifest, and the rows by their image's name."""
    manifest = convert(name, root, output, Options(**options), quiet=True)
    lines = [line for path in (output / name).iterdir() for line in path.read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    return manifest, {row["image_rpath"].split("/")[-1]: row for row in rows}


def test_boxes_that_show_nothing_are_left_out_by_name(tmp_path: Path) -> None:
    bad = [[10, 5, 0, 10], [10, 5, 20, -1], [41, 5, 9, 9], [-9, 0, 9, 9], [1, 1, 0.3, 9]]
    coco(tmp_path, instances({0: [BOX, *bad], 1: [[35.5, -3, 20, 10.5], BOX], 2: bad[:1], 3: []}))
    manifest, rows = converted(tmp_path, tmp_path / "out", shards=1)
    assert [element["bb"] for element in rows[NAMES[0]]["elems"]] == [[10, 5, 20, 10]]
    assert rows[NAMES[1]]["elems"][0] == {"caption": "cat", "bb": [36, 0, 4, 8]}  # cut to the image
    assert set(rows) == set(NAMES[:2]) and manifest.total().boxes == 3
    left_out = manifest.all_skips()
    assert left_out["box without area in its image"]["count"] == 6
    examples = left_out["box without area in its image"]["examples"]
    assert f"{NAMES[0]} (40 x 30): [10, 5, 0, 10] of 'cat'" in examples
    assert left_out["image without a usable box"] == {"count": 1, "examples": [NAMES[2]]}
    assert left_out["image without objects"]["count"] == 3


def test_a_crowd_is_no_object(tmp_path: Path) -> None:
    content = instances({0: [BOX, BOX]})
    content["annotations"][0]["iscrowd"] = 1
    coco(tmp_path, content)
    manifest, rows = converted(tmp_path, tmp_path / "out")
    assert len(rows[NAMES[0]]["elems"]) == 1 and manifest.all_skips()["object marked as a crowd"]["count"] == 1


def test_boxes_follow_an_image_that_was_resized_and_no_other(tmp_path: Path) -> None:
    sizes = {0: (80, 60), 1: (30, 40), 2: (400, 301)}
    coco(tmp_path, instances({0: [BOX], 1: [BOX], 2: [[100, 50, 200, 100]]}, sizes))
    manifest, rows = converted(tmp_path, tmp_path / "out")
    assert rows[NAMES[0]]["elems"][0]["bb"] == [5, 3, 10, 5]
    assert rows[NAMES[2]]["elems"][0]["bb"] == [10, 5, 20, 10] and set(rows) == {NAMES[0], NAMES[2]}
    (example,) = manifest.all_skips()["image of another shape than annotated"]["examples"]
    assert example.endswith(f"{NAMES[1]}: 40 x 30, annotated 30 x 40")


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    coco(tmp_path, instances({i: [BOX] for i in range(5)}))
    write(tmp_path / "train2014" / NAMES[0], b"")
    write(tmp_path / "train2014" / NAMES[1], b"no image")
    write(tmp_path / "train2014" / NAMES[2], image_bytes(2, size=(400, 300))[:-200])
    manifest, rows = converted(tmp_path, tmp_path / "a")
    assert set(rows) == set(NAMES[2:5])  # a cut one has a good header
    assert {"zero-byte image", "image does not decode"} <= set(manifest.all_skips())
    assert set(converted(tmp_path, tmp_path / "b", verify_images=True)[1]) == set(NAMES[3:5])


def test_a_text_that_cleaning_empties_is_left_out(tmp_path: Path) -> None:
    karpathy(tmp_path)
    content = json.loads((tmp_path / "karpathy/dataset_coco.json").read_text())
    content["images"][0]["sentences"] = [{"raw": " ?! ..."}, {"raw": "a cat"}]
    write(tmp_path / "karpathy/dataset_coco.json", json.dumps(content))
    manifest, rows = converted(tmp_path, tmp_path / "out", "coco")
    assert rows[NAMES[0]]["caption"] == "a cat" and manifest.total().rows == 6
    assert manifest.all_skips()["text of marks alone"]["count"] == 1


def test_objects_of_images_that_karpathy_evaluates_on_are_not_read(tmp_path: Path) -> None:
    coco(tmp_path, instances({i: [BOX] for i in range(6)}))
    karpathy(tmp_path, {NAMES[0]: "test", NAMES[1]: "val", NAMES[2]: "restval"})
    assert set(converted(tmp_path, tmp_path / "out")[1]) == set(NAMES[2:])


def test_images_of_other_lists_can_be_kept_out(tmp_path: Path) -> None:
    coco(tmp_path, instances({i: [BOX] for i in range(6)}))
    lists = [tmp_path / "refcoco+_test.json", tmp_path / "nlvr_test.json"]
    write(lists[0], json.dumps([{"image": f"elsewhere/COCO_val2014_{1:012d}.jpg", "text": "cat"}]))
    write(lists[1], json.dumps([{"images": ["a/b-img0.png", f"train2014/{NAMES[2]}"], "sentence": "x"}]))
    manifest, rows = converted(tmp_path, tmp_path / "out", exclude=[str(path) for path in lists])
    assert set(rows) == set(NAMES) - {NAMES[1], NAMES[2]}
    assert manifest.all_skips()["image to be kept out (--exclude)"]["count"] == 2
    write(lists[0], json.dumps([{"text": "cat"}]))
    with pytest.raises(DataError, match=r"refcoco\+_test.json: row 0 names no image"):
        convert("coco", tmp_path, tmp_path / "out", Options(exclude=[str(lists[0])]), quiet=True)


def test_visual_genome_knows_which_of_its_images_are_cocos(tmp_path: Path) -> None:
    regions = [
        {"id": i, "regions": [{"image_id": i, "phrase": f"cat {i}", "x": 1, "y": 1, "width": 9, "height": 9}]}
        for i in (7, 8)
    ]
    write(tmp_path / "annotations/region_descriptions.json", json.dumps(regions))
    data = [{"image_id": 7, "coco_id": 1}, {"image_id": 8, "coco_id": None}]
    write(tmp_path / "annotations/image_data.json", json.dumps(data))
    for i in (7, 8):
        write(tmp_path / f"images/VG_100K/{i}.jpg", image_bytes(i))
    write(tmp_path / "test.json", json.dumps([{"image": NAMES[1], "caption": ["cat"]}]))
    for name in ("vg_regions", "vg"):
        assert set(converted(tmp_path, tmp_path / "out", name, exclude=[str(tmp_path / "test.json")])[1]) == {"8.jpg"}
        assert set(converted(tmp_path, tmp_path / "all", name)[1]) == {"7.jpg", "8.jpg"}


def refer(root: Path, folder: str, refs: str, splits: dict[int, str]) -> None:
    """A member of RefCOCO's family: one object and expression an image."""
    write(root / folder / "instances.json", json.dumps(instances({i: [BOX] for i in range(6)})))
    content = [
        {"ref_id": i, "ann_id": 10 * i, "image_id": i, "split": split, "sentences": [{"sent": f"{folder} {i}"}]}
        for i, split in splits.items()
    ]
    write(root / folder / refs, pickle.dumps(content, 2))


def test_an_image_that_any_of_refcocos_family_evaluates_on_is_not_trained_on(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        write(tmp_path / "train2014" / name, image_bytes(number))
    refer(tmp_path, "refcoco", "refs(unc).p", {0: "train", 1: "train", 2: "testA", 3: "val"})
    refer(tmp_path, "refcocog", "refs(umd).p", {0: "train", 1: "test", 2: "train", 4: "train"})
    manifest, rows = converted(tmp_path, tmp_path / "out", "refcoco_rm_leak")
    assert set(rows) == {NAMES[0], NAMES[4]}
    assert rows[NAMES[0]]["elems"] == [{"caption": ["refcoco 0", "refcocog 0"], "bb": [10, 5, 20, 10]}]
    assert manifest.all_skips()["training image that another split evaluates on"]["count"] == 2
    assert list(manifest.not_written) == ["refcoco+"]


def test_groups_of_openimages_are_no_object_and_folders_may_be_the_archives(tmp_path: Path) -> None:
    columns = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction"
    lines = [
        columns,
        "0a,x,/m/1,1,0.25,0.75,0.1,1,0,0,0,0",
        "0a,x,/m/1,1,0,1,0,1,0,0,1,0",
        "f0,x,/m/1,1,0,1,0,1,0,0,-1,0",
    ]
    write(tmp_path / "oidv6-train-annotations-bbox.csv", "\n".join(lines))
    write(tmp_path / "class-descriptions-boxable.csv", 'LabelName,DisplayName\n/m/1,"Cat, wild"\n')
    write(tmp_path / "train_0/0a.jpg", image_bytes(0))
    write(tmp_path / "train_f/f0.jpg", image_bytes(1))
    manifest, rows = converted(tmp_path, tmp_path / "out", "openimages")
    assert rows["0a.jpg"]["elems"] == [{"caption": "Cat, wild", "bb": [10, 3, 20, 27]}]
    assert rows["f0.jpg"]["elems"] == [{"caption": "Cat, wild", "bb": [0, 0, 40, 30]}]
    assert manifest.all_skips()["box around a group of objects"]["count"] == 1
    for bad, said in ((lines[1].replace("/m/1", "/m/2"), "has no class '/m/2'"), ("../x" + lines[1][2:], "is no id")):
        write(tmp_path / "oidv6-train-annotations-bbox.csv", f"{columns}\n{bad}\n")
        with pytest.raises(DataError, match=said):
            convert("openimages", tmp_path, tmp_path / "out", quiet=True)
    write(tmp_path / "oidv6-train-annotations-bbox.csv", "a,b\n1,2\n")
    with pytest.raises(DataError, match="is not in OpenImages' format"):
        convert("openimages", tmp_path, tmp_path / "out", quiet=True)


@given(
    box=st.tuples(*[st.floats(-200, 200)] * 2, *[st.floats(-5, 300)] * 2),
    frame=st.tuples(st.integers(1, 100), st.integers(1, 100)),
    times=st.integers(1, 4),
)
def test_a_pixel_box_is_the_part_of_the_box_that_lies_in_the_image(
    box: tuple[float, float, float, float], frame: tuple[int, int], times: int
) -> None:
    size = frame[0] * times, frame[1] * times
    found = pixel_box(box, frame, size)
    sides = [(max(s, 0), min(s + length, f)) for s, length, f in zip(box[:2], box[2:], frame, strict=True)]
    exact = [edge * times for side in sides for edge in side]
    if found is None:
        assert any(last - first <= 1 for first, last in (exact[:2], exact[2:])) or min(box[2:]) <= 0
        return
    x, y, width, height = found
    assert 0 <= x < x + width <= size[0] and 0 <= y < y + height <= size[1]
    assert (x, x + width, y, y + height) == pytest.approx(exact, abs=0.501)


def test_numbers_that_are_none_make_no_box() -> None:
    assert pixel_box((math.nan, 0, 5, 5), (9, 9), (9, 9)) is None
    assert pixel_box((0, 0, math.inf, 5), (9, 9), (9, 9)) is None


def test_an_interrupted_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path, instances({i: [BOX] for i in range(6)}))
    whole = converted(tmp_path, tmp_path / "whole", shards=3)[0]
    out, real = tmp_path / "out", converting.write_shard
    written: list[str] = []

    def stop_at_second(plan: Any, part: Any, path: Path, *rest: Any) -> Any:
        if len(written) == 1 and not path.parent.parent.joinpath("go").exists():
            raise KeyboardInterrupt
        written.append(path.name)
        return real(plan, part, path, *rest)

    monkeypatch.setattr(converting, "write_shard", stop_at_second)
    arguments = ["convert", "coco_objs", "--root", str(tmp_path), "--output", str(out), "--shards", "3"]
    assert main(arguments) == 130 and not (out / "coco_objs").exists() and len(written) == 1
    write(out / "go", "")
    assert main([*arguments, "--resume", "--seed", "1"]) == 1  # other options
    write(out / ".coco_objs.partial/.rest.tmp", "of a killed run")
    assert main([*arguments, "--resume"]) == 0
    assert len(written) == len(set(written)) == 3  # the finished one was kept
    for file, record in whole.files.items():
        assert json.loads((out / "coco_objs.manifest.json").read_text())["files"][file]["sha256"] == record.sha256
    assert sorted(path.name for path in (out / "coco_objs").iterdir()) == sorted(whole.files)
    assert not list(out.glob(".*"))


def test_until_the_end_older_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path, instances({i: [BOX] for i in range(6)}))
    converted(tmp_path, tmp_path / "out", shards=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out/coco_objs").iterdir()}

    def full(*_: Any) -> Any:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(converting, "write_shard", full)
        assert main(["convert", "coco_objs", "--root", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out/coco_objs").iterdir()} == before
    assert len(converted(tmp_path, tmp_path / "out", shards=1)[0].files) == 1
    assert [path.name for path in (tmp_path / "out/coco_objs").iterdir()] == ["coco_objs-00000-of-00001.jsonl"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    coco(tmp_path, instances({0: [BOX]}))
    write(tmp_path / "out/coco_objs/mine.txt", "precious")
    with pytest.raises(DataError, match=r"holds 'mine\.txt', which no conversion wrote"):
        convert("coco_objs", tmp_path, tmp_path / "out", quiet=True)
    assert (tmp_path / "out/coco_objs/mine.txt").read_text() == "precious"


def test_what_cannot_be_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco(tmp_path, instances({}))
    base = ["--root", str(tmp_path), "--output", str(tmp_path / "out")]
    for arguments, said in (
        (["coco_objs", *base], "not one row could be written"),
        (["coco_objs", *base, "--shards", "0"], "--shards 0"),
        (["coco", *base, "--image-captions"], "--image-captions: coco has no captions of whole images"),
        (["coco", *base, "--image-root", str(tmp_path / "karpathy")], "does not lie in --image-root"),
        (["refcoco_rm_leak", *base], "no objects to train on"),
        (["obj365", *base], "zhiyuan_objv2_train.json not found"),
        (["cc3m", *base], "nothing to convert for cc3m"),
        (["coco", "--root", str(tmp_path / "none"), "--output", "x"], "is not a directory"),
    ):
        assert main(["convert", *arguments]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("[a-z]*"))


@pytest.mark.parametrize("name", ["coco_objs", "obj365", "vg_objs"])
def test_an_odd_value_is_an_error_that_names_the_file_or_is_left_out(name: str, tmp_path: Path) -> None:
    karpathy(tmp_path)
    write(tmp_path / "images/VG_100K/1.jpg", image_bytes())
    empty = json.dumps({"images": [], "annotations": [], "categories": []})
    thing = {"object_id": 1, "names": ["cat"], "x": 1, "y": 1, "w": 9, "h": 9}
    small = instances({0: [BOX]})
    small["images"] = small["images"][:1]
    file, good = {
        "coco_objs": ("annotations/instances_train2014.json", small),
        "obj365": ("zhiyuan_objv2_train.json", small),
        "vg_objs": ("annotations/objects.json", [{"image_id": 1, "objects": [thing]}]),
    }[name]
    write(tmp_path / "annotations/instances_val2014.json", empty)
    seen = 0
    for number, place in enumerate(places(good)):
        for odd in ODD[number % 4 :: 4]:
            write(tmp_path / file, json.dumps(replaced(good, place, odd)))
            try:
                convert(name, tmp_path, tmp_path / "out", quiet=True)
            except DataError as error:
                seen += 1
                assert file in str(error) or "not one row" in str(error) or "outside" in str(error), (place, odd)
    assert seen > 15
