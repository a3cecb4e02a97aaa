"""``python -m vlp.data.arrow check``: exit status and what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.raw import coco, image_bytes, write_coco, write_table
from vlp.data.arrow.__main__ import main
from vlp.data.arrow.convert import convert
from vlp.data.arrow.manifest import Manifest
from vlp.data.arrow.writer import CAPTION


@pytest.fixture
def arrow(tmp_path: Path) -> Path:
    write_coco(tmp_path / "raw", coco())
    convert("coco", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    return tmp_path / "arrow"


def check(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    status = main(["check", *map(str, arguments)])
    return status, " ".join(capsys.readouterr().out.split())


def test_all_is_well(arrow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, output = check(capsys, arrow)
    assert status == 0 and "all tables are complete" in output
    assert "coco_caption_karpathy_train │ 1 │ 6 │ 12 │" in output


def test_a_missing_table_and_a_missing_dataset(arrow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (arrow / "coco_caption_karpathy_val.arrow").unlink()
    status, output = check(capsys, arrow, "--datasets", "vg")
    assert status == 1
    assert "coco_caption_karpathy_val.arrow is missing" in output and "dataset vg is not there" in output


def test_a_changed_file(arrow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"image": image_bytes(), "caption": ["x"], "image_id": "a", "split": "val"}]
    write_table(arrow / "coco_caption_karpathy_val.arrow", rows, CAPTION)
    assert check(capsys, arrow)[0] == 1
    (arrow / "coco_caption_karpathy_val.arrow").write_bytes(b"")
    status, output = check(capsys, arrow)
    assert status == 1 and "has zero bytes" in output


def test_an_interrupted_conversion(arrow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.read(arrow, "coco")
    assert manifest is not None
    manifest.complete = False
    manifest.write(arrow)
    status, output = check(capsys, arrow)
    assert status == 1 and "the conversion of coco was interrupted" in output


def test_tables_without_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"image": image_bytes(), "caption": ["x", "y"], "image_id": "a", "split": "train"}
    for i in (0, 1, 3):
        write_table(tmp_path / f"sbu_{i}.arrow", [row], CAPTION)
    status, output = check(capsys, tmp_path)
    assert status == 1 and "sbu_2.arrow is missing" in output
    write_table(tmp_path / "sbu_2.arrow", [{**row, "image": image_bytes()[:-250]}], CAPTION)
    assert check(capsys, tmp_path)[0] == 0
    status, output = check(capsys, tmp_path, "--verify-images")
    assert status == 1 and "sbu_2.arrow, row 0: image does not decode" in output


def test_left_over_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw/images_train/0000").mkdir(parents=True)
    (tmp_path / "raw/images_train/0000/a.jpg").write_bytes(image_bytes())
    (tmp_path / "raw/annot.json").write_text('[["a.jpg", "x"]]')
    convert("sbu", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    row = {"image": image_bytes(), "caption": ["x"], "image_id": "a", "split": "train"}
    write_table(tmp_path / "arrow/sbu_1.arrow", [row], CAPTION)
    status, output = check(capsys, tmp_path / "arrow")
    assert status == 1 and "sbu_1.arrow is not in the manifest" in output


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path)]) == 1
    assert "holds no Arrow tables" in capsys.readouterr().err
