"""Tiny raw downloads in the official layouts."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from PIL import Image

Captions = Mapping[str, tuple[str, Sequence[str]]]  # file name -> (split, captions)


def image_bytes(number: int = 0, mode: str = "RGB", kind: str = "JPEG", size: tuple[int, int] = (40, 30)) -> bytes:
    """The bytes of an image whose colour depends on ``number``."""
    image = Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, number * 53 % 256)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, data: bytes | str) -> None:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def write_coco(root: Path, captions: Captions, images: Sequence[str] | None = None) -> None:
    """COCO's raw layout: train2014 for names with "train" in them, val2014 for the others."""
    entries = [
        {"filename": name, "split": split, "sentences": [{"raw": text} for text in texts]}
        for name, (split, texts) in captions.items()
    ]
    write(root / "karpathy/dataset_coco.json", json.dumps({"images": entries}))
    for number, name in enumerate(captions if images is None else images):
        write(root / ("train2014" if "train" in name else "val2014") / name, image_bytes(number))


def coco(images: int = 6) -> dict[str, tuple[str, list[str]]]:
    """Captions for ``images`` train images and two of each other split."""
    names = {f"COCO_train2014_{i:012d}.jpg": ("train", [f"train {i} a", f"train {i} b"]) for i in range(images)}
    for start, split in ((100, "restval"), (200, "val"), (300, "test")):
        names |= {f"COCO_val2014_{start + i:012d}.jpg": (split, [f"{split} {i}"]) for i in range(2)}
    return names


def write_table(path: Path, rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> None:
    """An Arrow file as other converters write it."""
    with pa.ipc.new_file(path, schema) as sink:
        sink.write_table(pa.Table.from_pylist(list(rows), schema=schema))


def read_table(path: Path) -> list[dict[str, object]]:
    """All rows of an Arrow file."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all().to_pylist()
