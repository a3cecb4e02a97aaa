"""The files: official names, disjoint splits, the same bytes for the same request, all or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scenes.coco_layout import Request, new_directory, write_coco
from scenes.corpus import write_corpus
from scenes.sampling import sample_scene, sample_splits
from scenes.statistics import Statistics
from tests.unit.scenes.conftest import REQUEST


def _run(*arguments: str | Path, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scenes", *map(str, arguments)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def _digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_layout_is_the_official_one(root: Path) -> None:
    data = json.loads((root / "karpathy" / "dataset_coco.json").read_text())
    assert data["dataset"] == "coco"
    images = data["images"]
    splits = [image["split"] for image in images]
    assert {name: splits.count(name) for name in set(splits)} == {"train": 30, "restval": 10, "val": 10, "test": 10}
    for image in images:
        folder = "train2014" if image["split"] == "train" else "val2014"
        assert image["filepath"] == folder
        assert re.fullmatch(rf"COCO_{folder}_\d{{12}}\.jpg", image["filename"])
        assert int(image["filename"][-16:-4]) == image["cocoid"]
        assert [sentence["sentid"] for sentence in image["sentences"]] == image["sentids"]
        assert len({sentence["raw"] for sentence in image["sentences"]}) == REQUEST.captions
        with Image.open(root / folder / image["filename"]) as opened:
            assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (64, 64))
    on_disk = {path.name for folder in ("train2014", "val2014") for path in (root / folder).iterdir()}
    assert on_disk == {image["filename"] for image in images}
    sentids = [sentid for image in images for sentid in image["sentids"]]
    assert len(set(sentids)) == len(sentids)


def test_truth_file_matches_the_captions_and_splits_share_no_scene(root: Path) -> None:
    images = {i["cocoid"]: i for i in json.loads((root / "karpathy" / "dataset_coco.json").read_text())["images"]}
    records = [json.loads(line) for line in (root / "scenes_truth.jsonl").read_text().splitlines()]
    assert [record["cocoid"] for record in records] == list(images)
    specifications = set()
    for record in records:
        image = images[record["cocoid"]]
        assert (record["split"], record["filename"]) == (image["split"], image["filename"])
        assert [(c["sentid"], c["raw"]) for c in record["captions"]] == [
            (s["sentid"], s["raw"]) for s in image["sentences"]
        ]
        scene = record["scene"]
        things = [{name: value for name, value in thing.items() if name != "boxes"} for thing in scene["things"]]
        specifications.add(json.dumps([scene["ground"], scene["time"], things]))
        partners = {images[statement["right_cocoid"]]["split"] for statement in record["statements"]}
        assert partners <= ({"train", "restval"} if record["split"] in ("train", "restval") else {record["split"]})
    assert len(specifications) == len(records)


def test_no_specification_occurs_twice_even_among_thousands() -> None:
    splits = sample_splits({"train": 2500, "val": 200, "test": 200}, seed=0)
    keys = [scene.key for scenes in splits.values() for scene in scenes]
    assert len(set(keys)) == len(keys) == 2900
    rng = random.Random(0)
    free = [sample_scene(rng, Statistics()).key for _ in range(2900)]
    assert len(set(free)) < len(free)  # without the check there would be repetitions


def test_bytes_depend_on_the_request_alone(root: Path, tmp_path: Path) -> None:
    options = ["--train", "40", "--val", "10", "--test", "10", "--image-size", "64", "--seed", "5"]
    for hash_seed, workers in (("1", "1"), ("2", "2")):
        output = tmp_path / hash_seed
        result = _run("--output", output, *options, "--workers", workers, hash_seed=hash_seed)
        assert result.returncode == 0, result.stderr
        assert _digests(output) == _digests(root)


def test_test_images_do_not_depend_on_the_size_of_train(root: Path, tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", Request(train=4, val=10, test=10, image_size=64, seed=5))
    own = {name: digest for name, digest in _digests(tmp_path / "raw").items() if name.startswith("val2014")}
    full = _digests(root)
    assert sum(full[name] == digest for name, digest in own.items() if name in full) >= 20


def test_corpus_command_is_deterministic_across_hash_seeds(tmp_path: Path) -> None:
    for hash_seed in ("1", "2"):
        output = tmp_path / "deep" / f"{hash_seed}.txt"
        result = _run("corpus", "--output", output, "--lines", "300", "--seed", "7", hash_seed=hash_seed)
        assert result.returncode == 0, result.stderr
    first, second = ((tmp_path / "deep" / f"{seed}.txt").read_text() for seed in "12")
    assert first == second
    assert len(first.splitlines()) == 300
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["1.txt", "2.txt"]


def test_the_same_request_again_changes_nothing_and_another_is_refused(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert not write_coco(root, REQUEST)
    result = _run("--output", root, "--train", "41")
    assert result.returncode == 1
    assert str(root) in result.stderr and "Traceback" not in result.stderr
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(FileExistsError, match=re.escape(str(tmp_path))):
        write_coco(tmp_path, REQUEST)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "raw") as fresh:
        (fresh / "half").write_text("done")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": -1}, "train must not be negative"),
        ({"train": 0, "val": 0, "test": 0}, "nothing to write"),
        ({"captions": 0}, "captions must be 1 to 8"),
        ({"image_size": 8}, "image_size must be 32 to 1024"),
    ],
)
def test_a_request_that_makes_no_data_set_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request(**changes)


def test_a_corpus_without_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lines must be positive, got 0"):
        write_corpus(tmp_path / "c.txt", 0, 7)
