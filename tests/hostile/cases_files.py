"""Files that a run reads: weights, tokenizers and tables, each with the items of a command line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import torch

from tests.hostile.groups import IMAGES, PIPES, TABLES, TOKENIZER, WEIGHTS
from tests.hostile.table import Case, Row
from tests.unit.checkpoint import test_other_files as other
from tests.unit.data.raw import image_bytes, read_table, write_table
from vlp.data.arrow.writer import CAPTION

LOGS = "logs"  # below a case's folder, written by a run that had begun
FILE = "{place}/file.ckpt"
NAMES = ("load_path", "teacher_path", "resume_from", "init.vision")


def weights(make: Callable[[Path], None], key: str) -> Case:
    """``key`` names what ``make`` writes."""
    epic = "epic " if key == "teacher_path" else ""
    row = Row(WEIGHTS, f"{epic}{key}={FILE}", 1, ("/file.ckpt: ", other.FILES[make]))
    return Case(f"{key} {make.__name__}", row, lambda place: make(place / "file.ckpt"))


WEIGHTS_CASES = [
    *(weights(make, "load_path") for make in other.FILES if make is not other.loop),
    *(
        weights(make, key)
        for key in NAMES[1:]
        for make in (other.text, other.null, other.folder, other.bomb, other.command_in_archive, other.plain_pickle)
    ),
    Case(
        "load_path loop", Row(WEIGHTS, f"load_path={FILE}", 1, ("no such file",)), lambda p: other.loop(p / "file.ckpt")
    ),
    Case(
        "a key that is no text",
        Row(WEIGHTS, f"load_path={FILE}", 1, ("/file.ckpt: a tensor has the key 3, no text",)),
        lambda place: torch.save({"state_dict": {3: torch.zeros(2)}}, place / "file.ckpt"),
    ),
]


def tokenizer(name: str, damage: Callable[[Path], object], *words: str, group: str = TOKENIZER) -> Case:
    """The small language model's folder, damaged."""
    return Case(name, Row(group, "tokenizer={place}/model", 1, words), lambda place: damage(place / "model"))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path, share: float = 0.5) -> None:
    """One bit of a byte changed."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * share)] ^= 1
    path.write_bytes(content)


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def to_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def _damaged_file(name: str, damage: Callable[[Path], object], folder: Path) -> None:
    damage(folder / name)


TOKENIZER_CASES = [
    tokenizer("no folder", shutil.rmtree, "tokenizer=", "/model: no such folder"),
    tokenizer("a file", to_file, "/model: is no folder"),
    tokenizer("an empty folder", emptied, "/model: the folder holds no tokenizer"),
    *(
        tokenizer(f"{name} a pipe", partial(_damaged_file, name, to_pipe), "is a pipe", f"/model/{name}", group=PIPES)
        for name in ("vocab.json", "config.json", "model.safetensors")
    ),
    *(
        tokenizer(f"{name} {how}", partial(_damaged_file, name, damage), f"/model/{name}")
        for name in ("vocab.json", "merges.txt", "tokenizer.json", "config.json", "model.safetensors")
        for how, damage in (("cut", half), ("flipped", flipped), ("missing", Path.unlink))
        if (name, how) not in (("tokenizer.json", "missing"),)  # the others hold the same
    ),
]

TRAIN = "coco_caption_karpathy_train"


def table(name: str, damage: Callable[[Path], object], *words: str, group: str = TABLES, begun: bool = False) -> Case:
    """The small data set's tables, that of training damaged; ``begun``: only images that are read tell."""
    line = "data_root={place}/arrow max_steps=1"
    made = partial(_damaged, damage)
    return Case(name, Row(group, line, 1, words), made, written=LOGS if begun else "")


def _damaged(damage: Callable[[Path], object], place: Path) -> None:
    damage(place / f"arrow/{TRAIN}.arrow")


def rewritten(path: Path, **columns: object) -> None:
    """By another converter, which left no checksums, with other values in some columns."""
    rows = [{**row, **{name: value for name, value in columns.items()}} for row in read_table(path)]
    foreign(path.parent)
    write_table(path, rows, CAPTION)


def foreign(folder: Path) -> None:
    for path in [*folder.glob("*.json"), *folder.glob("*.crc32")]:
        path.unlink()


def other_type(path: Path) -> None:
    """Numbers for captions."""
    foreign(path.parent)
    field = CAPTION.field("caption").with_type(pa.list_(pa.int64()))
    schema = CAPTION.set(CAPTION.get_field_index("caption"), field)
    write_table(path, [{**row, "caption": [1, 2]} for row in read_table(path)], schema)


def lacking(path: Path) -> None:
    foreign(path.parent)
    write_table(path, read_table(path), CAPTION.remove(CAPTION.get_field_index("image")))


def without_rows(path: Path) -> None:
    foreign(path.parent)
    for each in (path, path.with_name(path.name.replace("train", "restval"))):
        write_table(each, [], CAPTION)


def strips(path: Path) -> None:
    rewritten(path, image=image_bytes(size=(1, 20_000)))


def flipped_image(path: Path) -> None:
    """In the middle of the first image, and of the others: a run of one step draws some of them."""
    content = path.read_bytes()
    for row in read_table(path):
        image = row["image"]
        assert isinstance(image, bytes)
        place = content.index(image) + len(image) // 2
        content = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    path.write_bytes(content)


def flipped_caption(path: Path) -> None:
    """One letter of a caption."""
    content, captions = path.read_bytes(), read_table(path)[3]["caption"]
    assert isinstance(captions, list)
    place = content.index(captions[0].encode())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


TABLE_CASES = [
    table("absent", Path.unlink, f"{TRAIN}.arrow; write them with: python -m vlp.data.arrow coco"),
    table("cut off", half, f"{TRAIN}.arrow is not "),
    table("empty file", lambda path: path.write_bytes(b""), f"{TRAIN}.arrow"),
    table("a pipe", to_pipe, "is a pipe, not a file", f"{TRAIN}.arrow", group=PIPES),
    table("text", lambda path: path.write_text("no table"), f"{TRAIN}.arrow"),
    table("without rows", without_rows, f"dataset coco (train) is empty: not one sample in {TRAIN}"),
    table(
        "empty caption lists", lambda path: rewritten(path, caption=[]), f"{TRAIN}.arrow has 24 rows and not one text"
    ),
    table("captions of another type", other_type, f"{TRAIN}.arrow: column 'caption' is of type list<item: int64>"),
    table("a column that is lacking", lacking, f"{TRAIN}.arrow has no column 'image'"),
    table("a flipped caption", flipped_caption, f"{TRAIN}.arrow is not as it was converted"),
    table("a flipped footer", lambda path: flipped(path, 0.999), f"{TRAIN}.arrow"),
    table("a flipped image", flipped_image, f"{TRAIN}.arrow, row ", "not as it was converted", begun=True),
    table("strips", strips, f"{TRAIN}.arrow, row ", "1 x 20000 pixels: more than 20 times", group=IMAGES, begun=True),
    table(
        "texts for images",
        lambda path: rewritten(path, image=b"text"),
        f"{TRAIN}.arrow, row ",
        group=IMAGES,
        begun=True,
    ),
]
