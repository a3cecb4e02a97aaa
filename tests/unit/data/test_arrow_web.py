"""Web collections: shards, the official layout, img2dataset's folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.data.raw import image_bytes, read_table, write
from vlp.data.arrow import plans
from vlp.data.arrow.convert import convert
from vlp.data.arrow.registry import get_spec, table_files
from vlp.data.errors import DataError


def write_official(root: Path, images: int, annotated: int) -> None:
    for i in range(images):
        write(root / f"images_train/{i % 3:04d}/{i:06d}.jpg", image_bytes(i))
    write(root / "train_annot.json", json.dumps([[f"any/where/{i:06d}.jpg", f"caption {i}"] for i in range(annotated)]))


def rows(folder: Path, *tables: str) -> list[tuple[object, object]]:
    return [(row["image_id"], row["caption"]) for name in tables for row in read_table(folder / f"{name}.arrow")]


@pytest.mark.parametrize(("images", "sizes"), [(7, [3, 3, 1]), (6, [3, 3, 0]), (2, [2])])
def test_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: int, sizes: list[int]) -> None:
    monkeypatch.setattr(plans, "SHARD_IMAGES", 3)
    write_official(tmp_path / "raw", images, images)
    manifest = convert("cc12m", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    assert [record.rows for record in manifest.tables.values()] == sizes
    assert manifest.shards == {"cc12m_{i}": len(sizes)}
    files = table_files(get_spec("cc12m"), "train", tmp_path / "arrow")
    assert [name for name, _ in files] == [f"cc12m_{i}" for i in range(len(sizes))]
    got = rows(tmp_path / "arrow", *(name for name, _ in files))
    assert sorted(got) == [(f"{i:06d}.jpg", [f"caption {i}"]) for i in range(images)]


def test_what_does_not_match_is_counted(tmp_path: Path) -> None:
    write_official(tmp_path / "raw", 8, 6)
    annotations = json.loads((tmp_path / "raw/train_annot.json").read_text())
    annotations += [["x/000001.jpg", "again"], ["gone.jpg", "no image"], *([f"gone{i}.jpg", ""] for i in range(9))]
    annotations[2][1] = " "
    write(tmp_path / "raw/train_annot.json", json.dumps(annotations))
    manifest = convert("gcc", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    assert {reason: entry["count"] for reason, entry in manifest.skipped.items()} == {
        "image without annotation": 2,
        "annotation without image": 10,
        "second annotation of the same image": 1,
    }
    assert manifest.tables["conceptual_caption_train_0"].skipped["empty caption"]["count"] == 1
    assert ("000001.jpg", ["caption 1"]) in rows(tmp_path / "arrow", "conceptual_caption_train_0")
    assert list(manifest.not_written) == ["val"]


def test_img2dataset_folders(tmp_path: Path) -> None:
    for shard, number in ((0, 0), (0, 1), (1, 10000), (1, 10001), (1, 10002)):
        stem = tmp_path / f"raw/{shard:05d}/{number:09d}"
        write(stem.with_suffix(".jpg"), image_bytes(number))
        write(stem.with_suffix(".json"), json.dumps({"caption": f"caption {number}", "status": "success"}))
    write(tmp_path / "raw/00000_stats.json", "{}")
    (tmp_path / "raw/00000/000000001.json").unlink()
    write(tmp_path / "raw/00000/000000001.txt", "from the text file")
    (tmp_path / "raw/00001/000010001.json").unlink()
    write(tmp_path / "raw/00001/000010002.json", json.dumps({"caption": None}))
    manifest = convert("sbu", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    assert sorted(rows(tmp_path / "arrow", "sbu_0")) == [
        ("000000000.jpg", ["caption 0"]),
        ("000000001.jpg", ["from the text file"]),
        ("000010000.jpg", ["caption 10000"]),
    ]
    assert manifest.layout == "img2dataset"
    assert manifest.skipped["image without annotation"]["count"] == 1
    assert manifest.tables["sbu_0"].skipped["empty caption"]["count"] == 1


def test_neither_layout_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"annot\.json nor img2dataset"):
        convert("sbu", tmp_path / "raw", tmp_path / "arrow")


def test_an_annotation_of_another_form_is_named(tmp_path: Path) -> None:
    write_official(tmp_path / "raw", 1, 1)
    write(tmp_path / "raw/train_annot.json", '[["a.jpg", "x"], {"image": "b.jpg"}]')
    with pytest.raises(DataError, match=r"train_annot\.json, element 1"):
        convert("cc12m", tmp_path / "raw", tmp_path / "arrow")
