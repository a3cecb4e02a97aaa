"""Damaged tables: what the converters wrote is read as it was written, or refused with the name of the file."""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.data.odd import ODD, places, replaced
from tests.unit.data.raw import coco, image_bytes, read_table, write, write_coco, write_table
from vlp.data.arrow.__main__ import main
from vlp.data.arrow.check import check
from vlp.data.arrow.convert import convert
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.manifest import Manifest
from vlp.data.arrow.mixed import MixedDataset
from vlp.data.arrow.registry import Split
from vlp.data.arrow.writer import CAPTION, NLVR2, SNLI, vqa_schema
from vlp.data.errors import DataError
from vlp.data.transforms import build_transform

TEST = "coco_caption_karpathy_test"
TRANSFORMS = [build_transform("clip", 16)]


@pytest.fixture(scope="module")
def arrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coco")
    write_coco(folder / "raw", coco(images=3))
    convert("coco", folder / "raw", folder / "arrow", quiet=True)
    return folder / "arrow"


@pytest.fixture
def table(arrow: Path) -> Iterator[Path]:
    """A table that is whole again after the test."""
    path = arrow / f"{TEST}.arrow"
    files = {p: p.read_bytes() for p in (path, path.with_suffix(".crc32"), arrow / "coco.manifest.json")}
    yield path
    for p, data in files.items():
        p.write_bytes(data)


def samples(folder: Path, key: str = "coco", split: Split = "test") -> list[tuple[Any, ...]]:
    """Everything that a run reads of a data set."""
    dataset = build_dataset(key, split, folder, TRANSFORMS, draw_false_text=1)
    read = [dataset[i] for i in range(len(dataset))]
    return [tuple((k, v[0].numpy().tobytes() if "image" in k else v) for k, v in sorted(s.items())) for s in read]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_or_a_cut_never_changes_what_is_read(table: Path, data: st.DataObject) -> None:
    """Also where no length and no offset tells: inside texts and images."""
    whole = table.read_bytes()
    expected = samples(table.parent)
    damaged = bytearray(whole)
    if data.draw(st.sampled_from(["bit", "bit", "bit", "cut"])) == "bit":
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[data.draw(st.integers(0, len(whole) - 1)) :]
    table.write_bytes(damaged)
    try:
        assert samples(table.parent) == expected
    except DataError as error:
        assert table.name in str(error) and "\n" not in str(error)
    finally:
        table.write_bytes(whole)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_of_a_table_without_checksums_ends_in_words(table: Path, data: st.DataObject) -> None:
    """Tables of the official converters: what does not open or decode is refused; nothing else is raised."""
    whole = table.read_bytes()
    (table.parent / "coco.manifest.json").unlink(missing_ok=True)
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    table.write_bytes(damaged)
    try:
        samples(table.parent)
    except DataError as error:
        assert table.name in str(error) and "\n" not in str(error)
    finally:
        table.write_bytes(whole)


def flip(path: Path, what: bytes) -> None:
    """Change a bit in the middle of ``what`` in a file."""
    data = bytearray(path.read_bytes())
    data[data.index(what) + len(what) // 2] ^= 1
    path.write_bytes(data)


def stored(path: Path) -> dict[str, Any]:
    return read_table(path)[0]


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a caption": (lambda p: flip(p, stored(p)["caption"][0].encode()), "the checksum of its texts differs"),
    "an image": (
        lambda p: flip(p, stored(p)["image"]),
        r"row 0 \(COCO_val2014_0+30\d\.jpg\): image is not as it was converted: its checksum differs",
    ),
    "a cut": (lambda p: p.write_bytes(p.read_bytes()[:-8]), r"\d+ bytes, not \d+"),
    "a footer": (lambda p: p.write_bytes(p.read_bytes()[:-20] + b"\1" + p.read_bytes()[-19:]), "its footer differs"),
    "checksums": (lambda p: p.with_suffix(".crc32").write_bytes(bytes(8)), r"\.crc32 is not as it was written"),
    "no checksums": (lambda p: p.with_suffix(".crc32").unlink(), rf"\.crc32 is missing: it belongs to {TEST}\.arrow"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_named_by_the_run_and_by_check(what: str, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, message = DAMAGE[what]
    damage(table)
    with pytest.raises(DataError, match=rf"{TEST}.*{message}.*; copy {TEST}.* anew or convert"):
        samples(table.parent)
    assert main(["check", str(table.parent)]) == 1
    assert f"wrong: {table.with_suffix('')}" in capsys.readouterr().out


def test_a_manifest_without_checksums_is_read(table: Path) -> None:
    """As older versions wrote it; nothing is compared."""
    expected = samples(table.parent)
    path = table.parent / "coco.manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["content_sha256"]
    for record in manifest["tables"].values():
        for name in ("sha256", "values_crc32", "images_crc32"):
            del record[name]
    path.write_text(json.dumps(manifest))
    table.with_suffix(".crc32").unlink()
    assert samples(table.parent) == expected
    assert main(["check", str(table.parent)]) == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_of_the_manifest_is_noticed(table: Path, data: st.DataObject) -> None:
    """It says how many shards there are: one digit more or less would be another data set."""
    path = table.parent / "coco.manifest.json"
    whole = path.read_bytes()
    written = Manifest.read(table.parent, "coco")
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    try:
        assert Manifest.read(table.parent, "coco") == written
    except DataError as error:
        assert re.fullmatch(r".*coco\.manifest\.json is not .*delete .* and convert coco again", str(error))
    finally:
        path.write_bytes(whole)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_a_manifest_ends_in_words(table: Path, data: st.DataObject) -> None:
    """One without a checksum, as older versions wrote it."""
    path = table.parent / "coco.manifest.json"
    whole = path.read_bytes()
    manifest = json.loads(whole)
    del manifest["content_sha256"]
    place = data.draw(st.sampled_from(places(manifest)))
    path.write_text(json.dumps(replaced(manifest, place, data.draw(st.sampled_from(ODD)))))
    said = io.StringIO()
    with redirect_stdout(said):
        status = main(["check", str(table.parent)])
    try:
        samples(table.parent)
    except DataError as error:
        assert "\n" not in str(error) and status == 1
    finally:
        path.write_bytes(whole)


def test_the_checksums_are_those_of_the_files(arrow: Path) -> None:
    manifest = Manifest.read(arrow, "coco")
    assert manifest is not None
    rows: list[dict[str, Any]] = read_table(arrow / f"{TEST}.arrow")
    sums = np.frombuffer((arrow / f"{TEST}.crc32").read_bytes(), "<u4")
    assert sums.tolist() == [zlib.crc32(row["image"]) for row in rows]
    assert manifest.tables[TEST].images_crc32 == zlib.crc32(sums.tobytes())


def test_resume_writes_a_table_anew_that_lost_its_checksums(tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", coco())
    convert("coco", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    files = {path.name: path.read_bytes() for path in (tmp_path / "arrow").iterdir()}
    (tmp_path / "arrow" / f"{TEST}.crc32").unlink()
    convert("coco", tmp_path / "raw", tmp_path / "arrow", resume=True, quiet=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "arrow").iterdir()} == files


def test_both_images_of_a_pair_are_compared(tmp_path: Path) -> None:
    line = {"identifier": "train-1-0-0", "sentence": "s", "label": "True", "directory": 1}
    write(tmp_path / "raw/nlvr2/data/train.json", json.dumps(line))
    for side in (0, 1):
        write(tmp_path / f"raw/images/train/1/train-1-0-img{side}.png", image_bytes(side, kind="PNG"))
    convert("nlvr2", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    path = tmp_path / "arrow/nlvr2_train.arrow"
    assert len(samples(path.parent, "nlvr2", "train")) == 1
    flip(path, stored(path)["image_1"])
    with pytest.raises(DataError, match=r"nlvr2_train\.arrow, row 0 \(train-1-0\): image_1 is not as it was"):
        samples(path.parent, "nlvr2", "train")


# Contents that no converter writes ---------------------------------------------------------------------------

ROW: dict[str, dict[str, Any]] = {
    "caption": {"image": b"i", "caption": ["x"], "image_id": "a", "split": "train"},
    "nlvr2": {"image_0": b"i", "image_1": b"j", "questions": ["x"], "answers": ["True"], "identifier": "a"},
    "snli": {"image": b"i", "sentences": [["p", "h"]], "labels": [1]},
    "vqa": {"image": b"i", "questions": ["x"], "answers": [["a"]], "answer_labels": [[0]], "answer_scores": [[1.0]]}
    | {"image_id": 1, "question_id": [1], "split": "train"},
}
SCHEMA = {"caption": CAPTION, "nlvr2": NLVR2, "snli": SNLI, "vqa": vqa_schema(True)}
NAME = {"caption": "vg", "nlvr2": "nlvr2_train", "snli": "snli_train", "vqa": "vqav2_train"}


def refused(folder: Path, kind: str, schema: pa.Schema, rows: list[dict[str, Any]], message: str) -> None:
    """A table that neither a run nor ``check`` takes."""
    path = folder / f"{NAME[kind]}.arrow"
    write_table(path, rows, schema)
    write_table(folder / "vqav2_val.arrow", [ROW["vqa"]], vqa_schema(True))
    with pytest.raises(DataError, match=rf"{path.name}.*{message}.*convert") as caught:
        build_dataset({"caption": "vg"}.get(kind, kind), "train", folder, TRANSFORMS)
    assert str(caught.value) in check(folder, [])[1]


@pytest.mark.parametrize(
    ("kind", "column", "found", "value", "expected"),
    [
        ("caption", "caption", pa.list_(pa.int64()), [1], r"list<\w+: string>"),
        ("caption", "caption", pa.string(), "x", r"list<\w+: string>"),
        ("caption", "caption", pa.list_(pa.list_(pa.string())), [["x"]], r"list<\w+: string>"),
        ("caption", "caption", pa.list_(pa.binary()), [b"x"], r"list<\w+: string>"),
        ("caption", "image", pa.string(), "i", "binary"),
        ("caption", "image", pa.null(), None, "binary"),
        ("nlvr2", "answers", pa.list_(pa.bool_()), [True], r"list<\w+: string>"),
        ("snli", "sentences", pa.list_(pa.string()), ["h"], r"list<\w+: list<\w+: string>>"),
        ("snli", "labels", pa.list_(pa.string()), ["1"], r"list<\w+: int64>"),
        ("vqa", "answer_labels", pa.list_(pa.list_(pa.string())), [["0"]], r"list<\w+: list<\w+: int64>>"),
    ],
)
def test_a_column_of_another_type_is_refused(
    kind: str, column: str, found: pa.DataType, value: Any, expected: str, tmp_path: Path
) -> None:
    schema = SCHEMA[kind].set(SCHEMA[kind].get_field_index(column), pa.field(column, found))
    message = rf"column '{column}' is of type {found}, not {expected}"
    refused(tmp_path, kind, schema, [ROW[kind] | {column: value}], message)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("caption", {"caption": []}, r"has 1 rows and not one text in their 'caption'"),
        ("nlvr2", {"questions": ["x", "y"]}, "row 0: 2 questions, but 1 answers"),
        ("snli", {"labels": [1, 0]}, "row 0: 1 sentences, but 2 labels"),
        ("snli", {"labels": None}, "row 0: 1 sentences, but 0 labels"),
        ("vqa", {"answer_scores": []}, "row 0: 1 questions, but 0 answer_scores"),
        ("vqa", {"answer_scores": [[None]]}, "None in column 'answer_scores' is not allowed"),
        ("vqa", {"answer_labels": [[-1]]}, "-1 in column 'answer_labels' is not allowed"),
        ("snli", {"labels": [3]}, "3 in column 'labels' is not allowed"),
        ("snli", {"labels": [None]}, "None in column 'labels' is not allowed"),
        ("nlvr2", {"answers": ["true"]}, "'true' in column 'answers' is not allowed"),
    ],
)
def test_lists_that_do_not_belong_together_are_refused(
    kind: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    refused(tmp_path, kind, SCHEMA[kind], [ROW[kind] | change], message)


def test_a_split_without_a_caption_is_not_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table beside a full one is: a web shard, or the restval that a collection does not have."""
    names = [f"coco_caption_karpathy_{split}" for split in ("train", "restval", "val", "test")]
    for name in names:
        write_table(tmp_path / f"{name}.arrow", [] if name == names[1] else [ROW["caption"]], CAPTION)
    assert main(["check", str(tmp_path)]) == 0
    write_table(tmp_path / f"{names[0]}.arrow", [], CAPTION)
    capsys.readouterr()
    assert main(["check", str(tmp_path)]) == 1
    problem = f"wrong: {names[0]}, {names[1]}: not one caption, so coco has nothing to read for train"
    assert problem in capsys.readouterr().out
    both = rf"not one sample in {names[0]}\.arrow, {names[1]}\.arrow"
    with pytest.raises(DataError, match=rf"dataset coco \(train\) is empty: {both}"):
        MixedDataset([build_dataset("coco", "train", tmp_path, TRANSFORMS)]).refuse_empty()
    write_table(tmp_path / "vg.arrow", [ROW["caption"]], CAPTION)
    vg, coco = (build_dataset(key, "test", tmp_path, TRANSFORMS) for key in ("vg", "coco"))
    MixedDataset([vg, coco]).refuse_empty()
    with pytest.raises(DataError, match="datasets: vg has no test split"):
        MixedDataset([vg]).refuse_empty()
