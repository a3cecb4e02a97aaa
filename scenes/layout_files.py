"""What the writers of raw layouts share: truth records and the files that are made from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TRAINING = ("train", "restval")  # COCO's splits that are trained on

Record = dict[str, Any]


def image_file(scenes: Path, record: Record) -> Path:
    """Return where the image of a truth record lies."""
    return scenes / record["filepath"] / record["filename"]


def copy(source: Path, target: Path) -> None:
    """Copy a file, making the folders."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def write_text(path: Path, text: str) -> None:
    """Write a file, making the folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def json_lines(entries: Iterable[Record]) -> str:
    """One entry a line."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)
