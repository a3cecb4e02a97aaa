"""Scenes in every raw layout -> ALBEF's lists: items and fields are the ground truth; and all or nothing is written."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import LAYOUTS, write_tasks
from tests.unit.data.raw import coco as coco_captions
from tests.unit.data.raw import image_bytes, write
from tests.unit.data.raw import write_coco as write_tiny_coco
from vlp.data.errors import DataError
from vlp.data.json import convert as converting
from vlp.data.json.__main__ import main
from vlp.data.json.convert import ListsManifest, convert
from vlp.data.json.plans import PLANS
from vlp.data.raw.answers import normalize_word

Item = dict[str, Any]
TRAINING = ("train", "restval")
FILES = {
    "coco": "coco coco_train coco_val coco_test",
    "coco_karpathy": "coco_karpathy_train coco_karpathy_val coco_karpathy_test",
    "f30k": "flickr30k_train flickr30k_val flickr30k_test",
    "vg": "vg",
    "sbu": "sbu",
    "gcc": "cc3m_train cc3m_val",
    "cc12m": "cc12m",
    "vqa": "vqa_train vqa_val vqa_test",
    "vg_qa": "vg_qa",
    "nlvr2": "nlvr_train nlvr_dev nlvr_test",
    "snli": "ve_train ve_dev ve_test",
    "refcoco+": "refcoco+_train refcoco+_val refcoco+_test",
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in every layout, a folder each."""
    folder = tmp_path_factory.mktemp("raw")
    write_coco(folder / "scenes", Request(train=40, val=6, test=8, captions=2, image_size=48, seed=3))
    write_tasks(folder / "scenes", folder / "all", tuple(LAYOUTS))
    (folder / "all/coco").symlink_to(folder / "scenes")
    (folder / "all/coco_karpathy").symlink_to(folder / "scenes")
    (folder / "all/vg_qa").symlink_to(folder / "all/vg")
    return folder / "all"


@pytest.fixture(scope="module")
def truth(raw: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (raw / "coco/scenes_truth.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def manifests(raw: Path, data: Path) -> dict[str, ListsManifest]:
    return {name: convert(name, raw / name, data, quiet=True) for name in PLANS}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists") / "data"


@pytest.fixture(scope="module")
def lists(data: Path, manifests: dict[str, ListsManifest]) -> dict[str, list[Item]]:
    """Every list by its name without .json."""
    paths = [path for path in data.glob("*.json") if "manifest" not in path.name]
    return {path.stem: json.loads(path.read_bytes()) for path in (*paths, *data.glob("coco_karpathy/*.json"))}


def of(truth: list[dict[str, Any]], *splits: str) -> Iterator[dict[str, Any]]:
    return (record for record in truth if record["split"] in splits)


def captions(record: dict[str, Any]) -> list[str]:
    return [caption["raw"] for caption in record["captions"]]


def in_order(items: list[Any]) -> list[Any]:
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def test_every_data_set_gives_its_lists(
    lists: dict[str, list[Item]], manifests: dict[str, ListsManifest], data: Path
) -> None:
    assert {name: " ".join(Path(made).stem for made in m.lists) for name, m in manifests.items()} == FILES
    for name, manifest in manifests.items():
        saved = json.loads((data / f"{name}.manifest.json").read_text())
        assert not manifest.all_skips() and not manifest.not_written and saved["dataset"] == name
        for made, record in manifest.lists.items():
            content = (data / made).read_bytes()
            assert record.rows == len(lists[Path(made).stem]) > 0 and record.bytes == len(content)
            assert record.sha256 == hashlib.sha256(content).hexdigest() == saved["lists"][made]["sha256"]
    assert {path.name for path in data.iterdir() if path.is_dir()} == {"coco_karpathy", "refcoco+"}


def test_every_image_is_below_the_root_that_the_manifest_names(
    lists: dict[str, list[Item]], manifests: dict[str, ListsManifest]
) -> None:
    for name, manifest in manifests.items():
        for made in FILES[name].split():
            for item in lists[made]:
                for image in item["images"] if name == "nlvr2" else [item["image"]]:
                    assert Path(manifest.image_root, image + ".jpg" * (name == "snli")).is_file()


def test_coco(lists: dict[str, list[Item]], truth: list[dict[str, Any]]) -> None:
    pairs = [
        {"image": f"{record['filepath']}/{record['filename']}", "caption": caption}
        for record in of(truth, *TRAINING)
        for caption in captions(record)
    ]
    assert in_order(lists["coco"]) == in_order(pairs) and len(pairs) == 80
    named = [{**pair, "image_id": pair["image"].split("/")[1]} for pair in pairs]
    assert in_order(lists["coco_train"]) == in_order(named)
    for split in ("val", "test"):
        expected = [
            {"image": f"val2014/{record['filename']}", "caption": captions(record)} for record in of(truth, split)
        ]
        assert in_order(lists[f"coco_{split}"]) == in_order(expected) and expected


def test_flickr30k_is_not_trained_on_its_val_split(lists: dict[str, list[Item]], truth: list[dict[str, Any]]) -> None:
    expected = [
        {"image": f"flickr30k-images/{name}", "caption": caption, "image_id": name}
        for record in of(truth, *TRAINING)
        for name in [f"{record['cocoid']}.jpg"]
        for caption in captions(record)
    ]
    assert in_order(lists["flickr30k_train"]) == in_order(expected)
    assert len(lists["flickr30k_val"]) == 6 and len(lists["flickr30k_test"]) == 8


def test_visual_genome(lists: dict[str, list[Item]], truth: list[dict[str, Any]]) -> None:
    phrases = {
        str(record["cocoid"]): list(dict.fromkeys(region["phrase"] for region in record["regions"]))
        for record in of(truth, *TRAINING)
    }
    assert {Path(item["image"]).stem: item["caption"] for item in lists["vg"]} == phrases
    assert all(item.keys() == {"image", "caption"} for item in lists["vg"])


def test_web(lists: dict[str, list[Item]], truth: list[dict[str, Any]]) -> None:
    found = [item for name in ("cc3m_train", "cc3m_val", "sbu", "cc12m") for item in lists[name]]
    expected = {f"{record['cocoid']:09d}": captions(record)[-1] for record in of(truth, *TRAINING)}
    assert {Path(item["image"]).stem: item["caption"] for item in found} == expected and len(found) == 40
    assert all(item.keys() == {"image", "caption"} for item in found)


def test_questions(lists: dict[str, list[Item]], truth: list[dict[str, Any]]) -> None:
    folders = {"vqa_train": "train2014", "vqa_val": "val2014", "vqa_test": "test2015"}
    splits = {"vqa_train": ("train",), "vqa_val": ("restval", "val"), "vqa_test": ("test",)}
    for name, folder in folders.items():
        expected = []
        for record in of(truth, *splits[name]):
            for number, asked in enumerate(record["questions"]):
                item = {"dataset": "vqa", "image": f"{folder}/COCO_{folder}_{record['cocoid']:012d}.jpg"}
                item |= {"question": asked["question"], "question_id": 1000 * record["cocoid"] + number}
                expected.append(item if name == "vqa_test" else {**item, "answer": asked["answers"]})
        assert in_order(lists[name]) == in_order(expected) and expected


def test_questions_of_visual_genome_have_one_answer_in_the_form_of_vqa(
    lists: dict[str, list[Item]], truth: list[dict[str, Any]]
) -> None:
    asked = {
        1000 * record["cocoid"] + number: (str(record["cocoid"]), question["question"], question["answer"])
        for record in of(truth, *TRAINING)
        for number, question in enumerate(record["questions"])
    }
    found = {
        item["question_id"]: (Path(item["image"]).stem, item["question"], item["answer"]) for item in lists["vg_qa"]
    }
    assert found == asked
    assert all(item.keys() == {"dataset", "image", "question", "question_id", "answer"} for item in lists["vg_qa"])
    assert {item["dataset"] for item in lists["vg_qa"]} == {"vg"}


def test_candidates_are_the_frequent_answers(lists: dict[str, list[Any]], truth: list[dict[str, Any]]) -> None:
    answers = [q["answer"] for record in of(truth, "train", "restval", "val") for q in record["questions"]]
    frequent = {answer for answer in answers if answers.count(answer) >= 9}
    assert set(lists["answer_list"]) == frequent and len(frequent) > 5
    counts = [answers.count(answer) for answer in lists["answer_list"]]
    assert counts == sorted(counts, reverse=True)


def test_statements(lists: dict[str, list[Item]], truth: list[dict[str, Any]]) -> None:
    splits = {"nlvr_train": TRAINING, "nlvr_dev": ("val",), "nlvr_test": ("test",)}
    for name, of_splits in splits.items():
        said = [(s["sentence"], str(s["label"])) for record in of(truth, *of_splits) for s in record["statements"]]
        assert sorted((item["sentence"], item["label"]) for item in lists[name]) == sorted(said)
        for item in lists[name]:
            left, right = item["images"]
            assert left.endswith("-img0.png") and right == left.replace("-img0", "-img1")
            assert item.keys() == {"images", "sentence", "label"} and item["label"] in ("True", "False")


def test_hypotheses(lists: dict[str, list[Item]], truth: list[dict[str, Any]]) -> None:
    for name, splits in {"ve_train": TRAINING, "ve_dev": ("val",), "ve_test": ("test",)}.items():
        expected = [
            {"image": str(record["cocoid"]), "sentence": e["hypothesis"], "label": e["label"]}
            for record in of(truth, *splits)
            for e in record["entailments"]
        ]
        assert in_order(lists[name]) == in_order(expected)


def test_expressions(lists: dict[str, list[Item]], raw: Path, data: Path) -> None:
    refs = pickle.loads((raw / "refcoco+/refcoco+/refs(unc).p").read_bytes())
    for name, splits in {"train": ("train",), "val": ("val",), "test": ("testA", "testB")}.items():
        expected = [
            {"image": f"train2014/{ref['file_name']}", "text": sentence["sent"], "ref_id": ref["ref_id"]}
            for ref in refs
            if ref["split"] in splits
            for sentence in ref["sentences"]
        ]
        assert in_order(lists[f"refcoco+_{name}"]) == in_order(expected) and expected
    for file in ("refs(unc).p", "instances.json", "dets.json"):
        assert (data / "refcoco+" / file).read_bytes() == (raw / "refcoco+/refcoco+" / file).read_bytes()


# What is written, and when ----------------------------------------------------------------------------------


def tiny(folder: Path, **options: Any) -> ListsManifest:
    return convert("coco", folder / "raw", folder / "data", quiet=True, **options)


def skipped(manifest: ListsManifest) -> dict[str, int]:
    return {reason: entry["count"] for reason, entry in manifest.all_skips().items()}


def test_the_same_files_give_the_same_bytes_whatever_the_order_on_disk(tmp_path: Path) -> None:
    write_tiny_coco(tmp_path / "raw", coco_captions())
    tiny(tmp_path)
    first = (tmp_path / "data/coco_train.json").read_bytes()
    shutil.rmtree(tmp_path / "raw/train2014")
    for number, name in reversed(list(enumerate(coco_captions()))):
        if "train2014" in name:
            write(tmp_path / "raw/train2014" / name, image_bytes(number))
    tiny(tmp_path)
    assert (tmp_path / "data/coco_train.json").read_bytes() == first
    tiny(tmp_path, seed=1)
    assert (tmp_path / "data/coco_train.json").read_bytes() != first


def test_images_that_cannot_be_used_are_left_out_and_counted(tmp_path: Path) -> None:
    write_tiny_coco(tmp_path / "raw", coco_captions())
    folder = tmp_path / "raw/train2014"
    names = sorted(path.name for path in folder.iterdir())
    write(folder / names[0], b"")
    write(folder / names[1], b"not an image")
    (folder / names[2]).unlink()
    os.mkfifo(folder / names[2])
    (folder / names[3]).unlink()
    manifest = tiny(tmp_path)
    reasons = {"zero-byte image": 2, "image is no regular file": 2}  # in two lists
    assert skipped(manifest) == {"annotation without image": 1, **reasons}
    images = {item["image"] for item in json.loads((tmp_path / "data/coco_train.json").read_bytes())}
    kept = {f"train2014/{names[place]}" for place in (1, 4, 5)}
    assert {image for image in images if "train2014" in image} == kept
    assert skipped(tiny(tmp_path, verify_images=True))["image does not decode"] == 2


def test_image_root_is_what_names_start_from(tmp_path: Path) -> None:
    write_tiny_coco(tmp_path / "raw", coco_captions())
    manifest = tiny(tmp_path, image_root=tmp_path)
    assert manifest.image_root == str(tmp_path)
    for item in json.loads((tmp_path / "data/coco.json").read_bytes()):
        assert item["image"].startswith("raw/") and (tmp_path / item["image"]).is_file()
    with pytest.raises(DataError, match="does not lie in --image-root"):
        tiny(tmp_path, image_root=tmp_path / "data")


def test_lists_are_in_place_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_coco(tmp_path / "raw", coco_captions())
    tiny(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    write_tiny_coco(tmp_path / "raw", coco_captions(images=3))
    write = converting.write_list
    written: list[str] = []

    def full_disk(made: Any, *rest: Any) -> Any:
        if len(written) == 3:
            raise OSError(28, "no space left")
        written.append(made.name)
        return write(made, *rest)

    monkeypatch.setattr(converting, "write_list", full_disk)
    with pytest.raises(OSError, match="no space left"):
        tiny(tmp_path)
    assert written and {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before
    monkeypatch.undo()
    (tmp_path / "data/.coco.partial").mkdir()  # of a killed run
    (tmp_path / "data/.coco.partial/old.json").write_text("[]")
    tiny(tmp_path)
    after = {path.name for path in (tmp_path / "data").iterdir()}
    assert after == before.keys() and (tmp_path / "data/coco.json").read_bytes() != before["coco.json"]


def test_nothing_is_written_over_where_not_one_item_is_left(tmp_path: Path) -> None:
    write_tiny_coco(tmp_path / "raw", coco_captions())
    tiny(tmp_path)
    before = (tmp_path / "data/coco.json").read_bytes()
    for path in (tmp_path / "raw").rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"not one item could be written from .*zero-byte image \(20\)"):
        tiny(tmp_path)
    assert (tmp_path / "data/coco.json").read_bytes() == before


def test_captioning_has_its_captions_in_the_form_that_they_are_scored_by(
    lists: dict[str, list[Any]], truth: list[dict[str, Any]]
) -> None:
    named = {record["cocoid"]: record for record in truth}
    training = [(item["image_id"], item["caption"]) for item in lists["coco_karpathy_train"]]
    said = [(record["cocoid"], caption) for record in of(truth, *TRAINING) for caption in captions(record)]
    assert in_order(training) == in_order(said)
    for split in ("val", "test"):
        items: list[Item] = lists[f"coco_karpathy_{split}"]
        references: Any = lists[f"coco_karpathy_{split}_gt"]
        assert {item["image_id"] for item in items} == {record["cocoid"] for record in of(truth, split)}
        assert [image["id"] for image in references["images"]] == [item["image_id"] for item in items]
        scored = [(entry["image_id"], entry["caption"]) for entry in references["annotations"]]
        assert scored == [(item["image_id"], caption) for item in items for caption in item["caption"]]
        for item in items:
            record = named[item["image_id"]]
            assert item["image"] == f"{record['filepath']}/{record['filename']}"
            assert item["caption"] == captions(record)
        assert len({entry["id"] for entry in references["annotations"]}) == len(scored)


def test_given_candidates(tmp_path: Path, raw: Path) -> None:
    given = tmp_path / "official.json"
    given.write_text(json.dumps(["net", "pitcher", "café"]))
    manifest = convert("vqa", raw / "vqa", tmp_path / "data", answer_list=given, quiet=True)
    assert json.loads((tmp_path / "data/answer_list.json").read_bytes()) == ["net", "pitcher", "café"]
    assert manifest.answers == 3
    for wrong, message in (
        (["a", "b", "a"], "holds 'a' twice"),
        ({}, "does not hold"),
        (["a", 5], "row 1: an answer must be"),
    ):
        given.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=message):
            convert("vqa", raw / "vqa", tmp_path / "data", answer_list=given, quiet=True)


def test_the_command_says_what_was_written_and_what_the_recipe_needs(
    tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "refcoco+", "--root", str(raw / "refcoco+"), "--output", str(tmp_path / "data")]) == 0
    output = capsys.readouterr().out
    for part in ("refcoco+_test.json", "also written: refcoco+/refs(unc).p", f"image_root: {raw / 'refcoco+'}"):
        assert part in output
    assert main(["convert", "coco", "--root", str(tmp_path / "absent"), "--output", str(tmp_path / "data")]) == 1
    assert capsys.readouterr().err == f"error: --root {tmp_path / 'absent'} is not a directory\n"


def test_detections_may_be_absent_and_that_is_said(tmp_path: Path, raw: Path) -> None:
    shutil.copytree(raw / "refcoco+", tmp_path / "raw")
    (tmp_path / "raw/refcoco+/dets.json").unlink()
    manifest = convert("refcoco+", tmp_path / "raw", tmp_path / "data", quiet=True)
    (why,) = manifest.not_written.items()
    assert "dets.json, which evaluation takes its boxes from" in why[0] and "not found" in why[1]


def test_answers_of_visual_genome_are_normalised_like_those_of_vqa() -> None:
    assert normalize_word("On the street.") == "on street" and normalize_word("Two.") == "2"
