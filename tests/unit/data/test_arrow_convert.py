"""Conversion as a promise: same input, same bytes; nothing half-written; everything left out is counted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meter.utils.write_coco_karpathy import make_arrow
from tests.unit.data.raw import coco, image_bytes, read_table, write, write_coco
from vlp.data.arrow.convert import convert
from vlp.data.arrow.manifest import Manifest
from vlp.data.arrow.registry import get_spec, table_files
from vlp.data.errors import DataError
from vlp.data.raw import source as source_module


def command(*arguments: str | Path, hash_seed: str = "0") -> list[str]:
    return ["env", f"PYTHONHASHSEED={hash_seed}", sys.executable, "-m", "vlp.data.arrow", *map(str, arguments)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_bytes_whatever_the_hash_seed_and_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path / "raw", coco())
    for seed in ("1", "2"):
        subprocess.run(
            command("coco", "--root", tmp_path / "raw", "--output", tmp_path / seed, hash_seed=seed),
            check=True,
            capture_output=True,
        )
    listing = source_module.listing
    monkeypatch.setattr(source_module, "listing", lambda folder: sorted(listing(folder), reverse=True))
    convert("coco", tmp_path / "raw", tmp_path / "reversed", quiet=True)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "reversed")


def test_rows_are_shuffled_by_the_seed(tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", coco(images=30))
    orders: list[list[str]] = []
    for seed in (0, 0, 1):
        convert("coco", tmp_path / "raw", tmp_path / "arrow", seed=seed, quiet=True)
        rows = read_table(tmp_path / "arrow/coco_caption_karpathy_train.arrow")
        orders.append([str(row["image_id"]) for row in rows])
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) and orders[0] != sorted(orders[0])


def test_everything_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    captions = coco(images=4)
    captions["COCO_train2014_000000000000.jpg"] = ("train", ["kept", "  ", ""])
    captions["COCO_train2014_000000000001.jpg"] = ("train", [" "])
    captions["COCO_train2014_000000000555.jpg"] = ("train", ["its image is missing"])
    present = [name for name in captions if "555" not in name]
    write_coco(tmp_path / "raw", captions, [*present, "COCO_train2014_000000000777.jpg"])
    write(tmp_path / "raw/train2014/COCO_train2014_000000000002.jpg", b"")
    write(tmp_path / "raw/train2014/COCO_train2014_000000000003.jpg", image_bytes()[:-200])
    manifest = convert("coco", tmp_path / "raw", tmp_path / "arrow", verify_images=True, quiet=True)
    train = manifest.tables["coco_caption_karpathy_train"]
    counted = {reason: entry["count"] for reason, entry in (manifest.skipped | train.skipped).items()}
    assert counted == {
        "empty caption": 3,
        "image with empty captions only": 1,
        "annotation without image": 1,
        "image without annotation": 1,
        "zero-byte image": 1,
        "image does not decode": 1,
    }
    rows = read_table(tmp_path / "arrow/coco_caption_karpathy_train.arrow")
    assert [row["caption"] for row in rows] == [["kept"]]
    assert (train.rows, train.captions) == (1, 1)
    assert Manifest.read(tmp_path / "arrow", "coco") == manifest


def test_a_kill_leaves_no_half_table_and_resume_finishes_it(tmp_path: Path) -> None:
    raw, arrow = tmp_path / "raw", tmp_path / "arrow"
    names = {f"COCO_val2014_{i:012d}.jpg": ("restval", ["x"]) for i in range(5000)}  # the third table takes a while
    write_coco(raw, coco() | names)
    process = subprocess.Popen(command("coco", "--root", raw, "--output", arrow), stdout=-3, stderr=-3)
    partial = arrow / ".coco_caption_karpathy_restval.arrow.tmp"
    deadline = time.monotonic() + 30
    while not partial.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [f"coco_caption_karpathy_{split}.arrow" for split in ("train", "val")]
    assert sorted(path.name for path in arrow.glob("*.arrow")) == done
    with pytest.raises(DataError, match=r"interrupted.*--resume"):
        table_files(get_spec("coco"), "train", arrow)

    finished = (arrow / "coco_caption_karpathy_train.arrow").stat().st_mtime_ns
    resumed = convert("coco", raw, arrow, resume=True, quiet=True)
    assert (arrow / "coco_caption_karpathy_train.arrow").stat().st_mtime_ns == finished
    assert resumed.complete and not partial.exists()
    convert("coco", raw, tmp_path / "whole", quiet=True)
    assert contents(arrow) == contents(tmp_path / "whole")


def test_resume_refuses_other_raw_data(tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", coco(images=3))
    convert("coco", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    write_coco(tmp_path / "raw", coco(images=4))
    with pytest.raises(DataError, match="run without --resume"):
        convert("coco", tmp_path / "raw", tmp_path / "arrow", resume=True, quiet=True)


def test_a_full_disk_is_said_plainly_and_leaves_nothing_behind(tmp_path: Path) -> None:
    captions = coco(images=40)
    write_coco(tmp_path / "raw", captions)
    for name in captions:
        if "train" in name:
            write(tmp_path / "raw/train2014" / name, image_bytes(kind="BMP", size=(100, 100)))
    convert_it = " ".join(command("coco", "--root", tmp_path / "raw", "--output", tmp_path / "arrow"))
    result = subprocess.run(["bash", "-c", f"ulimit -f 200; {convert_it}"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "no space left for coco_caption_karpathy_train.arrow" in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in (tmp_path / "arrow").iterdir()] == ["coco.manifest.json"]


def test_missing_raw_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a directory"):
        convert("coco", tmp_path / "nowhere", tmp_path / "arrow")
    with pytest.raises(DataError, match=r"dataset_coco\.json not found"):
        convert("coco", tmp_path, tmp_path / "arrow")
    write_coco(tmp_path / "raw", coco(), images=[])
    with pytest.raises(DataError, match=r"train2014/\*\.jpg or .*val2014/\*\.jpg"):
        convert("coco", tmp_path / "raw", tmp_path / "arrow")
    write(tmp_path / "raw/karpathy/dataset_coco.json", '{"images": [{"filename": "a.jpg", "split": "train"}]}')
    with pytest.raises(DataError, match=r"dataset_coco\.json.*sentences.*at image 0"):
        convert("coco", tmp_path / "raw", tmp_path / "arrow")
    with pytest.raises(DataError, match=r"nothing to convert for snli.*snli_ve_train\.jsonl not found"):
        convert("snli", tmp_path / "raw", tmp_path / "arrow")
    with pytest.raises(ValueError, match="unknown dataset 'cocoa'"):
        convert("cocoa", tmp_path, tmp_path)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    write_coco(tmp_path / "raw", {"COCO_train2014_1.jpg": ("train", ["a"])})
    write(tmp_path / "raw/train2014/COCO_train2014_1.jpg", b"")
    with pytest.raises(DataError, match=r"not one row .*zero-byte image \(1\)"):
        convert("coco", tmp_path / "raw", tmp_path / "arrow", quiet=True)


def test_an_annotation_cannot_lead_out_of_the_root(tmp_path: Path) -> None:
    write(tmp_path / "outside.jpg", image_bytes())
    line = {"Flickr30K_ID": "../../../outside", "sentence1": "p", "sentence2": "h", "gold_label": "neutral"}
    write(tmp_path / "raw/snli_ve_train.jsonl", json.dumps(line))
    with pytest.raises(DataError, match="outside"):
        convert("snli", tmp_path / "raw", tmp_path / "arrow", quiet=True)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    good = {"Flickr30K_ID": "1", "sentence1": "p", "sentence2": "h", "gold_label": "neutral"}
    write(tmp_path / "raw/snli_ve_train.jsonl", json.dumps(good) + '\n{"Flickr30K_ID": ')
    with pytest.raises(DataError, match=r"snli_ve_train\.jsonl, line 2"):
        convert("snli", tmp_path / "raw", tmp_path / "arrow", quiet=True)


def test_vqa_keeps_the_last_thousand_val_images_apart(tmp_path: Path) -> None:
    def files(split: str, ids: range) -> None:
        questions = [{"image_id": i, "question_id": i * 10, "question": f"q {i}?"} for i in ids]
        answer = {"multiple_choice_answer": "yes", "answers": [{"answer": "yes"}] * 10}
        annotations = [{"image_id": i, "question_id": i * 10, **answer} for i in ids]
        write(tmp_path / f"raw/v2_OpenEnded_mscoco_{split}_questions.json", json.dumps({"questions": questions}))
        write(tmp_path / f"raw/v2_mscoco_{split}_annotations.json", json.dumps({"annotations": annotations}))
        for i in ids:
            write(tmp_path / f"raw/{split}/COCO_{split}_{i:012d}.jpg", bytes([1, i % 256]))

    files("train2014", range(3))
    files("val2014", range(100, 1103))
    manifest = convert("vqa", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    names = ("val", "trainable_val", "rest_val")
    val, most, rest = (read_table(tmp_path / f"arrow/vqav2_{name}.arrow") for name in names)
    assert (len(val), most, rest) == (1003, val[:3], val[3:])
    assert set(manifest.not_written) == {"test", "test-dev"}


def test_progress_is_plain_lines_and_the_summary_says_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vlp.progress.Pace.due", lambda _: True)
    write_coco(tmp_path / "raw", coco(), [*coco(), "COCO_val2014_000000000999.jpg"])
    make_arrow(tmp_path / "raw", tmp_path / "arrow")  # under the official module name
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 12 and lines[-1].startswith("coco: 12/12 rows, ") and "\x1b" not in printed.err
    output = " ".join(printed.out.split())
    assert "coco_caption_karpathy_train.arrow │ 6 │ 12 │" in output
    assert "image without annotation: 1 (e.g. " in output and "COCO_val2014_000000000999.jpg)" in output
