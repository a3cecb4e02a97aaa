"""Which share of the published data sets a run reads, by the tables, lists and files that it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.img2dataset import links, write_download
from tests.unit.data.raw import coco, write_coco
from vlp.data import published
from vlp.data.arrow.convert import convert
from vlp.data.arrow.coverage import coverage_of
from vlp.data.arrow.dataset import ArrowDataset
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.registry import EvalSplit, Split, get_spec
from vlp.data.json.plans import PLANS as LISTS
from vlp.data.jsonl.convert import Options
from vlp.data.jsonl.convert import convert as convert_lines
from vlp.data.jsonl.coverage import coverage_of as coverage_of_lines
from vlp.data.jsonl.lines import JsonLines
from vlp.data.jsonl.plans import PLANS as LINES
from vlp.data.published import coverage
from vlp.data.transforms import build_transform


def dataset(root: Path, key: str, split: Split, eval_split: EvalSplit = "test") -> ArrowDataset:
    return build_dataset(get_spec(key), split, root, [build_transform("clip", 32)], eval_split=eval_split)


def test_a_share_is_known_where_all_sizes_are() -> None:
    assert coverage({"a": 3, "b": 5}, ["a", "b"], 4) == {"published": 8, "coverage": 0.5}
    assert coverage({"a": 3}, ["a"], None) == {"published": 3, "coverage": None}
    assert coverage({"a": 3}, ["a", "b"], 4) == coverage({"a": 3}, [], 4) == {"published": None, "coverage": None}


def test_images_of_the_tables_of_a_caption_set(tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", coco())
    convert("coco", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    names = {split: f"coco_caption_karpathy_{split}" for split in ("train", "restval", "val", "test")}
    assert coverage_of(dataset(tmp_path / "arrow", "coco", "train"), "test") == {
        **{"split": "train", "dataset": "coco", "tables": [names["train"], names["restval"]]},
        **{"rows": 8, "texts": 14, "published": 113_287, "coverage": 8 / 113_287},
    }
    found = coverage_of(dataset(tmp_path / "arrow", "coco", "test", "val"), "val")
    assert found["tables"] == [names["val"]] and found["coverage"] == 2 / 5_000


def test_shards_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlp.data.arrow.plans.SHARD_IMAGES", 2)
    write_download(tmp_path / "raw", "webdataset", [links(0, 5)])
    convert("sbu", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    found = coverage_of(dataset(tmp_path / "arrow", "sbu", "train"), "test")
    assert found["tables"] == ["sbu_0", "sbu_1", "sbu_2"] and found["coverage"] == 5 / 1_000_000


def test_rows_of_lines_are_those_of_their_manifest(tmp_path: Path) -> None:
    write_download(tmp_path / "raw", "parquet", [links(0, 5)])
    convert_lines("cc12m", tmp_path / "raw", tmp_path / "data", Options(binary=True, shards=2), quiet=True)
    folder = tmp_path / "data/cc12m"
    (entry,) = coverage_of_lines(JsonLines([folder]))
    assert entry == {"name": "cc12m", "rows": 5, "published": 12_423_374, "coverage": 5 / 12_423_374}
    unknown = {"name": "cc12m", "rows": None, "published": None, "coverage": None}
    first = sorted(folder.iterdir())[0]
    first.write_bytes(first.read_bytes() + b"{}\n")  # no longer what the manifest counts
    assert coverage_of_lines(JsonLines([folder])) == [unknown]
    (tmp_path / "data/cc12m.manifest.json").write_text("[]")
    assert coverage_of_lines(JsonLines([folder])) == [unknown]


def test_sizes_belong_to_what_conversions_write() -> None:
    tables = {name for key in ("coco", "f30k", "vg", "gcc", "sbu", "cc12m", "nlvr2", "snli", "vqa") for name in of(key)}
    assert set(published.TABLES) <= tables
    assert set(published.LINES) <= set(LINES) and {"vqa", "refcoco+"} <= set(LISTS)


def of(key: str) -> set[str]:
    spec = get_spec(key)
    return {*spec.train, *spec.val, *spec.test, *([spec.karpathy_val] if spec.karpathy_val else [])}
