"""Bytes that change on a disk: what reads them for a run refuses them by name, or reads the same as before."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from epic_common.language_models.fit import FitSettings, fit_language_model
from epic_common.saliency_cache.reader import SaliencyCache
from tests.hostile.harness import BOUND, FOREIGN
from tests.unit.data.raw import coco, image_bytes, write_coco
from tests.unit.epic.small_cache import some, write
from vlp.checkpoint.convert import convert
from vlp.checkpoint.weights import WeightsError, read_checkpoint, read_state_dict, saved_config
from vlp.data.arrow.convert import convert as convert_tables
from vlp.data.arrow.datasets import build_dataset
from vlp.data.errors import DataError
from vlp.data.images import ImageError, decode_image
from vlp.data.tokenizers import encode, load_tokenizer
from vlp.data.transforms import build_transform

TIMES = 40  # for each kind of file
TEXTS = ["a cat and dog number 7", "zebra", "", "日本 é"]
WAYS: dict[str, Callable[[bytearray, random.Random], None]] = {}


def way(change: Callable[[bytearray, random.Random], None]) -> Callable[[bytearray, random.Random], None]:
    WAYS[change.__name__] = change
    return change


@way
def flipped(content: bytearray, draw: random.Random) -> None:
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


@way
def cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


@way
def zeroed(content: bytearray, draw: random.Random) -> None:
    """A page that was never written."""
    start = draw.randrange(len(content))
    end = min(start + 4096, len(content))
    content[start:end] = bytes(end - start)


@way
def shifted(content: bytearray, draw: random.Random) -> None:
    content.insert(draw.randrange(len(content)), draw.randrange(256))


class Kind(NamedTuple):
    """Files of one kind: which of a folder are damaged, and everything that a run reads of them."""

    names: str
    read: Callable[[Path], Any]


def tables(folder: Path) -> Any:
    """Texts, identities and pixels of every sample."""
    dataset = build_dataset("coco", "test", folder / "arrow", [build_transform("clip", 16)], draw_false_text=1)
    read = [dataset[index] for index in range(len(dataset))]
    return [[(key, value[0].tolist() if "image" in key else value) for key, value in each.items()] for each in read]


def tokenizer(folder: Path) -> Any:
    return encode(load_tokenizer(folder / "model"), TEXTS, 16)


def cache(folder: Path) -> Any:
    scores = SaliencyCache(folder / "cache", "the command").scores([key for key, _ in some(6)])
    if None in scores:
        raise ValueError(f"{folder / 'cache'} lacks a pair")  # ends a run, too: test_saliency_cache.py
    return [row.tolist() for row in scores if row is not None]


def checkpoint(folder: Path) -> Any:
    return listed(read_checkpoint(folder / "run.ckpt"))


def export(folder: Path) -> Any:
    path = folder / "run.safetensors"
    return listed(read_state_dict(path)), saved_config(path)


def listed(value: Any) -> Any:
    """Tensors as lists, which compare as a whole."""
    if isinstance(value, dict):
        return {key: listed(each) for key, each in value.items()}
    return value.tolist() if isinstance(value, torch.Tensor) else value


KINDS = {
    "a table": Kind("arrow/*test.arrow", tables),
    "a manifest": Kind("arrow/*.json", tables),
    "the checksums of images": Kind("arrow/*test.crc32", tables),
    "a tokenizer": Kind("model/[!m]*.json", tokenizer),
    "the merges of a tokenizer": Kind("model/merges.txt", tokenizer),
    "the scores of a cache": Kind("cache/scores-*", cache),
    "the manifest of a cache": Kind("cache/manifest.json", cache),
    "a checkpoint": Kind("run.ckpt", checkpoint),
    "an export": Kind("run.safetensors", export),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind, as our own commands write it."""
    folder = tmp_path_factory.mktemp("whole")
    write_coco(folder / "raw", coco(images=3))
    convert_tables("coco", folder / "raw", folder / "arrow", quiet=True)
    (folder / "captions.txt").write_text("\n".join(f"a cat and dog number {number}" for number in range(40)))
    sizes = FitSettings(family="roberta", steps=1, batch_size=4, layers=1, width=16, heads=2, vocab_size=280)
    fit_language_model(folder / "captions.txt", folder / "model", sizes)
    write(folder / "cache", [some(6)])
    state = {"a.weight": torch.randn(9, 7), "b.bias": torch.randn(5).bfloat16()}
    torch.save(
        {"state_dict": state, "global_step": 3, "hyper_parameters": {"config": {"vit": "x"}}}, folder / "run.ckpt"
    )
    convert(folder / "run.ckpt", folder / "run.safetensors")
    return folder


@contextmanager
def in_time(seconds: float = BOUND) -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(int(seconds))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def refusal(read: Callable[[], Any], expected: Any) -> str:
    """What a run would say; nothing where it reads what was written."""
    try:
        with in_time():
            assert read() == expected, "another value, in silence"
    except (DataError, WeightsError, ValueError, OSError) as error:  # what ends a run in one line
        return str(error)
    return ""


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes(kind: str, how: str, whole: Path, tmp_path: Path) -> None:
    names, read = KINDS[kind]
    folder, draw, refused = tmp_path / "copy", random.Random(f"{kind} {how}"), 0
    shutil.copytree(whole, folder)
    expected = read(folder)
    paths = sorted(folder.glob(names))
    for _ in range(TIMES):
        path = draw.choice(paths)
        good = path.read_bytes()
        content = bytearray(good)
        WAYS[how](content, draw)
        path.write_bytes(content)
        said = refusal(lambda: read(folder), expected)
        path.write_bytes(good)
        if said:
            refused += 1
            assert str(folder) in said and "\n" not in said, said
            assert not any(words in said for words in FOREIGN), said
    assert refused > 0


def test_images_that_are_cut() -> None:
    """No image of a table is, as its checksum tells; those of other converters have none."""
    good, draw = image_bytes(3, size=(60, 40)), random.Random(0)
    pixels = decode_image(good, "RGB").tobytes()
    for _ in range(TIMES):
        content = bytearray(good)
        cut(content, draw)
        try:
            assert decode_image(bytes(content), "RGB").tobytes() == pixels
        except ImageError as error:
            assert "\n" not in str(error)
