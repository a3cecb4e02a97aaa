"""The official module names of the converters; what they write is in the parity fixture golden_arrow."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.unit.data.raw import coco, read_table, write_coco
from vlp.data.arrow.convert import CONVERTERS

# Official module -> dataset; the last is for the 16M setting.
MODULES = {
    "write_coco_karpathy": "coco",
    "write_f30k_karpathy": "f30k",
    "write_vg": "vg",
    "write_sbu": "sbu",
    "write_conceptual_caption": "gcc",
    "write_vqa": "vqa",
    "write_nlvr2": "nlvr2",
    "write_cc12m": "cc12m",
}


@pytest.mark.parametrize(("module", "dataset"), MODULES.items())
def test_every_official_module_converts_its_dataset(module: str, dataset: str) -> None:
    assert importlib.import_module(f"vilt.utils.{module}").make_arrow is CONVERTERS[dataset]


def test_an_official_call_writes_the_tables(tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", coco())
    importlib.import_module("vilt.utils.write_coco_karpathy").make_arrow(str(tmp_path / "raw"), str(tmp_path / "out"))
    rows = {split: read_table(tmp_path / f"out/coco_caption_karpathy_{split}.arrow") for split in ("train", "restval")}
    captions = {row["image_id"]: (row["split"], row["caption"]) for table in rows.values() for row in table}
    assert captions == {name: entry for name, entry in coco().items() if entry[0] in rows}
