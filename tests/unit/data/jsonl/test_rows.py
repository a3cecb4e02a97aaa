"""Rows of pairs: what they hold, which are left out, and that their draws are their own."""

from __future__ import annotations

import base64
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.data.jsonl.files import binary, pairs, write_lines
from tests.unit.data.lists import tokenizer, write_images
from tests.unit.data.raw import image_bytes
from vlp.data.draws import SampleKey
from vlp.data.errors import DataError
from vlp.data.images import ImageError
from vlp.data.json.images import ImageRoot
from vlp.data.json.transforms import EvalTransform, TrainTransform
from vlp.data.jsonl.batches import RowBatches
from vlp.data.jsonl.lines import JsonLines, Line
from vlp.data.jsonl.pairs import PairCollator, PairReader
from vlp.data.jsonl.rows import RowError, RowImages, parsed
from vlp.data.jsonl.texts import TextReader, masker_of

TOKENIZER = tokenizer()
KEY = SampleKey(0, 0, "pairs", 0)


def reader(images: RowImages | None = None, **texts: Any) -> PairReader:
    settings = {"max_words": 30, "max_tokens": 30, **texts}
    masked = TextReader(TOKENIZER, masker_of(TOKENIZER), **settings)
    return PairReader(images or RowImages("binary", None), "caption", masked, EvalTransform(16))


def batches(path: Path, size: int = 2, read: PairReader | None = None) -> RowBatches:
    return RowBatches(JsonLines([path]), read or reader(), PairCollator(0), size, seed=0)


def test_a_batch_holds_images_texts_and_where_they_come_from(tmp_path: Path) -> None:
    path = pairs(tmp_path / "pairs.jsonl", 5)
    batch = next(iter(batches(path, size=5)))
    offsets = {json.loads(line)["caption"]: at for at, line in _lines(path)}
    assert sorted(offsets[text] for text in batch["text"]) == sorted(offsets.values())
    assert batch["index"] == [offsets[text] for text in batch["text"]] and batch["dataset"] == ["pairs"] * 5
    assert batch["image"].shape == (5, 3, 16, 16)
    encoded = TOKENIZER(batch["text"], padding="longest", return_tensors="pt")  # [CLS] X
    assert torch.equal(batch["text_ids"], encoded["input_ids"])
    assert torch.equal(batch["text_masks"], encoded["attention_mask"])
    chosen = batch["text_labels_mlm"] != -100
    assert torch.equal(batch["text_labels_mlm"][chosen], batch["text_ids"][chosen]) and chosen.any(1).all()
    assert torch.equal(batch["text_ids_mlm"][~chosen], batch["text_ids"][~chosen])


def _lines(path: Path) -> list[tuple[int, bytes]]:
    found, at = [], 0
    for line in path.read_bytes().splitlines(keepends=True):
        found.append((at, line))
        at += len(line)
    return found


def test_a_texts_pieces_are_cut_closed_or_taken_as_they_are() -> None:
    words = "man " * 50
    for settings, expected in (
        ({}, ["[CLS]"] + ["man"] * 29),
        ({"eos": True}, ["[CLS]"] + ["man"] * 28 + ["[SEP]"]),
        ({"max_words": 3}, ["[CLS]"] + ["man"] * 3),
        ({"max_words": 3, "eos": True}, ["[CLS]"] + ["man"] * 3 + ["[SEP]"]),
        ({"tokenized": True, "max_words": 3}, ["[CLS]"] + ["man"] * 29),
    ):
        _, ids = reader(**settings).texts.encode(words)
        assert TOKENIZER.convert_ids_to_tokens(ids) == expected
    _, ids = reader(tokenized=True).texts.encode(" man ##s no-such-piece ")
    assert TOKENIZER.convert_ids_to_tokens(ids) == ["[CLS]", "man", "##s", "[UNK]"]


def test_a_caption_from_the_web_cannot_spell_a_special_token() -> None:
    _, ids = reader().texts.encode("a man [SEP] [MASK] [PAD]")
    assert not {0, *TOKENIZER.convert_tokens_to_ids(["[SEP]", "[MASK]"])} & set(ids)


def test_each_pass_draws_one_of_several_captions(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a", [{"binary": binary(), "caption": ["a man", "two dogs", "snow"]}])
    texts = [batch["text"][0] for batch in islice(batches(path, size=1), 60)]
    assert set(texts) == {"a man", "two dogs", "snow"}
    assert texts == [batch["text"][0] for batch in islice(batches(path, size=1), 60)]


def test_images_lie_under_a_root_or_in_the_row(tmp_path: Path) -> None:
    write_images(tmp_path / "images", ["a/1.jpg"])
    root = ImageRoot(tmp_path / "images", "image_root")
    read = reader(RowImages("image_rpath", root))
    sample = read({"image_rpath": "a/1.jpg", "caption": "a man"}, KEY, "here")
    row = {"binary": base64.b64encode((tmp_path / "images/a/1.jpg").read_bytes()).decode(), "caption": "a man"}
    assert torch.equal(reader()(row, KEY, "here")["image"], sample["image"])
    with pytest.raises(DataError, match="lies outside of image_root"):
        read({"image_rpath": "../1.jpg", "caption": "a man"}, KEY, "here")
    with pytest.raises(ImageError, match="no such file"):
        read({"image_rpath": "2.jpg", "caption": "a man"}, KEY, "here")
    with pytest.raises(DataError, match=r"hdfs://x/1\.jpg is not on a local disk: mount it"):
        read({"image_rpath": "hdfs://x/1.jpg", "caption": "a man"}, KEY, "here")


BAD: dict[str, tuple[Any, str]] = {
    "broken": (b'{"binary": "', "is not valid JSON"),
    "not utf-8": (b'{"caption": "\xff"}', "is not UTF-8 text"),
    "a list": ([1], "is list of 1, not an object"),
    "too deep": (b"[" * 100_000, "is nested too deep"),
    "no caption": ({"binary": binary()}, "lacks 'caption'"),
    "null caption": ({"binary": binary(), "caption": None}, "'caption' must be a string or a list of them, not null"),
    "no captions": ({"binary": binary(), "caption": []}, "'caption' is an empty list"),
    "numbers": ({"binary": binary(), "caption": [1]}, "'caption' holds a string that must be a string"),
    "no words": ({"binary": binary(), "caption": " ,.! "}, "has no word"),
    "half of a pair": (b'{"binary": "", "caption": "\\ud800"}', "half of a surrogate pair"),
    "no image": ({"caption": "a man"}, "lacks 'binary'"),
    "no text": ({"binary": 5, "caption": "a man"}, "'binary' must be a string"),
    "no base64": ({"binary": "ä$", "caption": "a man"}, "'binary' is not base64"),
    "no photo": ({"binary": base64.b64encode(b"hello").decode(), "caption": "a man"}, "no JPEG"),
    "cut": ({"binary": base64.b64encode(image_bytes()[:200]).decode(), "caption": "a man"}, "Truncated"),
    "a strip": ({"binary": base64.b64encode(image_bytes(size=(300, 2))).decode(), "caption": "a man"}, "no photo"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_does_not_serve_says_why(name: str) -> None:
    row, says = BAD[name]
    line = Line(0, 0, row if isinstance(row, bytes) else json.dumps(row).encode())
    with pytest.raises((RowError, ImageError), match=says):
        reader()(parsed(line), KEY, "here")


def test_rows_that_do_not_serve_are_counted_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = [{"binary": binary(i), "caption": f"good {i}"} for i in range(10)]
    path = write_lines(tmp_path / "mixed.jsonl", [*good[:5], *(row for row, _ in BAD.values()), *good[5:]])
    stream = batches(path, size=5)
    texts = [text for batch in islice(stream, 4) for text in batch["text"]]
    assert sorted(texts) == sorted([f"good {i}" for i in range(10)] * 2)
    guard = stream.guards["mixed"]
    assert guard.failures >= len(BAD) and guard.reads == guard.failures + 20
    assert f"dataset mixed: cannot read the row at {path}: line at byte " in caplog.text


def test_a_file_without_a_good_row_is_refused_at_once(tmp_path: Path) -> None:
    bad = write_lines(tmp_path / "bad.jsonl", [row for row, _ in BAD.values()])
    with pytest.raises(DataError, match=r"bad.jsonl: line at byte 0: is not valid JSON.*not one of the first 16 rows"):
        batches(bad).check_first_rows()
    batches(write_lines(tmp_path / "late", [*(row for row, _ in BAD.values()), {"binary": binary(), "caption": "a"}]))
    lines = JsonLines([pairs(tmp_path / "good.jsonl", 2), bad])
    with pytest.raises(DataError, match=r"bad\.jsonl"):
        RowBatches(lines, reader(), PairCollator(0), 1, seed=0).check_first_rows()


def test_a_run_ends_where_everything_is_broken(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a", [b"{"] * 50)
    with pytest.raises(DataError, match="20 rows in a row failed: the data is broken"):
        next(iter(batches(path)))


def test_a_row_draws_the_same_whatever_was_read_before(tmp_path: Path) -> None:
    read = reader()
    read.transform = TrainTransform(16, (0.2, 1.0))
    path = pairs(tmp_path / "a", 6)
    seen: dict[int, list[Any]] = {}
    for size in (1, 2, 3):
        stream = RowBatches(JsonLines([path]), read, lambda samples: {"samples": samples}, size, seed=0)
        for sample in islice((sample for batch in stream for sample in batch["samples"]), 6):
            seen.setdefault(sample["_key"].index, []).append(sample)
    for samples in seen.values():
        assert len(samples) == 3
        assert all(torch.equal(sample["image"], samples[0]["image"]) for sample in samples)
        assert all(sample["text"] == samples[0]["text"] for sample in samples)
