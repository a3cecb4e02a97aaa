"""Reading tables: every broken file is named, every foreign layout is read, captions keep their order."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.raw import coco, write_coco, write_table
from vlp.data.arrow.convert import convert
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.registry import EvalSplit, Split, get_spec, table_files
from vlp.data.arrow.tables import ArrowTables
from vlp.data.arrow.task_datasets import VqaDataset
from vlp.data.arrow.writer import CAPTION, NLVR2, SNLI, vqa_schema
from vlp.data.errors import DataError
from vlp.data.transforms import build_transform

SPLITS: tuple[Split, ...] = ("train", "val")


def caption_row(name: str, *captions: str) -> dict[str, object]:
    return {"image": name.encode(), "caption": list(captions), "image_id": name, "split": "train"}


def tables(folder: Path, *names: str, dedupe: bool = True, column: str = "caption") -> ArrowTables:
    return ArrowTables([(name, folder / f"{name}.arrow") for name in names], column, dedupe)


TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=6), max_size=5)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(TEXTS, min_size=1, max_size=3), dedupe=st.booleans(), batch=st.integers(1, 4))
def test_the_index_is_that_of_lists(parts: list[list[list[str]]], dedupe: bool, batch: int) -> None:
    """Against the plain rule of docs/official/meter.md §3.3, with several tables and several batches in a table."""
    expected = [
        (row, number, text)
        for row, texts in enumerate(texts for part in parts for texts in part)
        for number, text in enumerate(dict.fromkeys(texts) if dedupe else texts)
    ]
    with tempfile.TemporaryDirectory() as name:
        for i, part in enumerate(parts):
            with pa.ipc.new_file(Path(name, f"{i}.arrow"), CAPTION) as sink:
                rows = [caption_row(f"{i}-{j}", *texts) for j, texts in enumerate(part)]
                sink.write_table(pa.Table.from_pylist(rows, schema=CAPTION), max_chunksize=batch)
        found = tables(Path(name), *map(str, range(len(parts))), dedupe=dedupe)
        assert found.num_rows == sum(map(len, parts)) and found.num_texts == len(expected)
        got = [(int(found.rows[j]), int(found.numbers[j]), found.text(j)) for j in range(found.num_texts)]
        assert got == expected
        images = [f"{i}-{j}".encode() for i, part in enumerate(parts) for j in range(len(part))]
        assert [found.cell(row, "image") for row in range(found.num_rows)] == images


def test_caption_order_does_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    captions = [f"caption {i % 7}" for i in range(12)]
    write_table(tmp_path / "t.arrow", [caption_row("a", *captions)], CAPTION)
    code = (
        "from pathlib import Path; from vlp.data.arrow.tables import ArrowTables\n"
        f"t = ArrowTables([('t', Path({str(tmp_path / 't.arrow')!r}))], 'caption', True)\n"
        "print([t.text(j) for j in range(t.num_texts)])"
    )
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
        assert printed.decode().strip() == repr([f"caption {i}" for i in range(7)])


def test_other_string_types_null_lists_and_pandas_columns_are_read(tmp_path: Path) -> None:
    """What official converters write under old and new pandas, read together."""
    texts, name = pa.large_list(pa.large_string()), pa.large_string()
    fields = {"image": pa.binary(), "caption": texts, "image_id": name, "split": name, "__index_level_0__": pa.int64()}
    large = pa.schema(list(fields.items())).with_metadata({"pandas": "{}"})
    write_table(tmp_path / "large.arrow", [{**caption_row("b", "x", "y", "x"), "__index_level_0__": 7}], large)
    write_table(tmp_path / "small.arrow", [caption_row("a", "one")], CAPTION)
    write_table(tmp_path / "empty.arrow", [], pa.schema([(name, pa.null()) for name in CAPTION.names]))
    found = tables(tmp_path, "small", "empty", "large")
    assert [found.text(j) for j in range(found.num_texts)] == ["one", "x", "y"]
    assert [found.table_name(int(row)) for row in found.rows] == ["small", "large", "large"]
    assert found.cell(1, "image_id") == "b"

    row = {"image": b"i", "questions": ["q"], "image_id": 1, "question_id": [1], "split": "x"}
    null: dict[str, object] = {"answers": [], "answer_labels": [], "answer_scores": []}
    full = {"answers": [["yes"]], "answer_labels": [[3]], "answer_scores": [[1.0]]}
    write_table(tmp_path / "test.arrow", [{**row, **null}], vqa_schema(False))
    write_table(tmp_path / "train.arrow", [{**row, **full}], vqa_schema(True))
    mixed = tables(tmp_path, "train", "test", dedupe=False, column="questions")
    assert [mixed.cell(row, "answers") for row in (0, 1)] == [[["yes"]], []]


def test_the_hypothesis_of_a_pair_is_the_text(tmp_path: Path) -> None:
    row = {"image": b"i", "sentences": [["premise", " first . "], ["premise", "first ."]], "labels": [0, 2]}
    write_table(tmp_path / "s.arrow", [row], SNLI)
    found = tables(tmp_path, "s", dedupe=False, column="sentences")
    assert [found.text(j) for j in range(2)] == ["first .", "first ."]


def test_a_pickled_reader_carries_no_images(tmp_path: Path) -> None:
    write_table(tmp_path / "t.arrow", [{**caption_row("a", "x"), "image": bytes(100_000)}], CAPTION)
    found = tables(tmp_path, "t")
    data = pickle.dumps(found)
    assert len(data) < 10_000
    assert pickle.loads(data).cell(0, "image") == bytes(100_000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "has zero bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "is not a complete Arrow file"),
        (lambda path: path.write_bytes(b"hello" * 100), "is not a complete Arrow file"),
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: write_table(path, [{"caption_": "x"}], pa.schema([("caption_", pa.string())])), "has no column"),
        (
            lambda path: write_table(path, [{"caption": "x"}], pa.schema([("caption", pa.string())])),
            "of type string",
        ),
        (lambda path: write_table(path, [caption_row("a", "x"), caption_row("b", None)], CAPTION), "row 1: a text is"),  # type: ignore[arg-type]
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, damage: object, message: str) -> None:
    write_table(tmp_path / "bad.arrow", [caption_row("a", "x")], CAPTION)
    damage(tmp_path / "bad.arrow")  # type: ignore[operator]
    with pytest.raises(DataError, match=rf"bad\.arrow.*{message}.*convert"):
        tables(tmp_path, "bad")


@pytest.mark.parametrize(
    ("key", "name", "schema", "column"),
    [
        ("vg", "vg", CAPTION, "image"),
        ("nlvr2", "nlvr2_train", NLVR2, "image_1"),
        ("nlvr2", "nlvr2_train", NLVR2, "answers"),
        ("snli", "snli_train", SNLI, "labels"),
        ("vqa", "vqav2_train", vqa_schema(True), "question_id"),
    ],
)
def test_a_column_that_samples_need_is_missed_at_once(
    key: str, name: str, schema: pa.Schema, column: str, tmp_path: Path
) -> None:
    write_table(tmp_path / "vqav2_val.arrow", [], vqa_schema(True))
    write_table(tmp_path / f"{name}.arrow", [], schema.remove(schema.get_field_index(column)))
    with pytest.raises(DataError, match=rf"{name}\.arrow has no column '{column}' \(it has .*convert"):
        build_dataset(key, "train", tmp_path, [build_transform("clip", 16)])


def test_shards_without_a_manifest(tmp_path: Path) -> None:
    """Tables of the official converters: what exists is taken, a gap is a lost file."""
    gcc = get_spec("gcc")
    with pytest.raises(DataError, match=r"conceptual_caption_train_0\.arrow.*vlp\.data\.arrow gcc"):
        table_files(gcc, "train", tmp_path)
    for i in (0, 1, 2, 10):
        write_table(tmp_path / f"conceptual_caption_train_{i}.arrow", [caption_row("a", "x")], CAPTION)
    with pytest.raises(DataError, match=r"lacks 7 of 11 tables: .*conceptual_caption_train_3\.arrow"):
        table_files(gcc, "train", tmp_path)
    (tmp_path / "conceptual_caption_train_10.arrow").unlink()
    names = [name for name, _ in table_files(gcc, "train", tmp_path)]
    assert names == [f"conceptual_caption_train_{i}" for i in range(3)]


def test_a_lost_table_of_a_manifest_is_named(tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", coco())
    convert("coco", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    (tmp_path / "arrow/coco_caption_karpathy_restval.arrow").unlink()
    with pytest.raises(DataError, match=r"'coco' \(train\) lacks 1 of 2 tables: .*restval\.arrow"):
        table_files(get_spec("coco"), "train", tmp_path / "arrow")
    assert len(table_files(get_spec("coco"), "test", tmp_path / "arrow")) == 1
    (tmp_path / "arrow/coco.manifest.json").write_text('{"dataset": "coco"}')
    with pytest.raises(DataError, match=r"coco\.manifest\.json is not a manifest"):
        table_files(get_spec("coco"), "test", tmp_path / "arrow")
    shutil.rmtree(tmp_path / "arrow")
    with pytest.raises(DataError, match="is not a directory"):
        table_files(get_spec("coco"), "test", tmp_path / "arrow")


@pytest.mark.parametrize(
    ("key", "split", "eval_split", "expected"),
    [
        ("coco", "train", "test", ["train", "restval"]),
        ("coco", "val", "test", ["test"]),
        ("coco", "test", "test", ["test"]),
        ("coco", "train", "val", ["train", "restval"]),
        ("coco", "val", "val", ["val"]),
        ("coco", "test", "val", ["val"]),
        ("f30k", "train", "test", ["train", "val"]),
        ("f30k", "val", "test", ["test"]),
        ("f30k", "train", "val", ["train"]),
        ("f30k", "val", "val", ["val"]),
        ("f30k", "test", "val", ["val"]),
    ],
)
def test_eval_split(key: str, split: Split, eval_split: EvalSplit, expected: list[str]) -> None:
    names = get_spec(key).tables(split, eval_split)
    assert [name.removeprefix(f"{key}_caption_karpathy_") for name in names] == expected


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'cococo'.*known keys: coco, f30k"):
        get_spec("cococo")
    with pytest.raises(ValueError, match="eval_split"):
        get_spec("coco").tables("val", "train")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="split"):
        get_spec("coco").tables("dev")  # type: ignore[arg-type]


def test_vocabularies_that_disagree_are_refused(tmp_path: Path) -> None:
    for name, answer in (("train", "yes"), ("val", "no")):
        row = {"image": b"i", "questions": ["q"], "image_id": 1, "question_id": [1], "split": name}
        row |= {"answers": [[answer]], "answer_labels": [[0]], "answer_scores": [[1.0]]}
        write_table(tmp_path / f"vqav2_{name}.arrow", [row], vqa_schema(True))
    both, val = (build_dataset("vqa", split, tmp_path, [build_transform("clip", 16)]) for split in SPLITS)
    assert isinstance(both, VqaDataset) and isinstance(val, VqaDataset)
    assert val.answers() == {0: "no"}
    with pytest.raises(DataError, match="id 0 is 'yes' and 'no'"):
        both.answers()
