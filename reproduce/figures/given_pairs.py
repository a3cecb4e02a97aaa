"""The pairs that a command is asked about: ``--image`` with ``--caption``, or the rows of a JSON list."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlp.data.errors import DataError
from vlp.files import regular

_KEYS = ("image", "caption", "word", "replace")


@dataclass(frozen=True)
class Given:
    """An image file and its caption; of Fig. 5 the word that is looked at and its replacement, "" = chosen here."""

    image: Path
    caption: str
    word: str = ""
    replace: str = ""

    def content(self) -> bytes:
        """The bytes of the image file.

        Raises:
            DataError: there is no such file.
        """
        try:
            return regular(self.image).read_bytes()
        except OSError as error:
            raise DataError(f"--image {self.image}: {error.strerror or error}") from error


def add_pairs(parser: argparse.ArgumentParser, words: bool = False) -> None:
    """The flags that :func:`given_pairs` reads; ``words`` adds those of Fig. 5."""
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="an image; may be repeated")
    parser.add_argument("--caption", action="append", default=[], metavar="TEXT", help="its caption, one per --image")
    row = '{"image": …, "caption": …' + (', "word": …, "replace": …}' if words else "}")
    parser.add_argument(
        "--pairs", type=Path, metavar="FILE", help=f"JSON list of {row}; images are relative to the file"
    )
    if words:
        parser.add_argument("--word", action="append", default=[], help="the most salient one, or one per --image")
        parser.add_argument(
            "--replace", action="append", default=[], help="the generator's likeliest other word, or one per --image"
        )


def given_pairs(arguments: argparse.Namespace) -> list[Given]:
    """The pairs of a command line.

    Raises:
        ValueError, DataError: naming the flag, or the file and its row.
    """
    columns = {key: getattr(arguments, key, []) for key in _KEYS}
    count = len(columns["image"])
    for key, values in columns.items():
        if len(values) != count and (values or key == "caption"):
            raise ValueError(f"--image is given {count} times, --{key} {len(values)} times: give one for each image")
    given = [
        Given(Path(image), *(columns[key][i] if columns[key] else "" for key in _KEYS[1:]))
        for i, image in enumerate(columns["image"])
    ]
    if arguments.pairs is not None:
        given += _of_list(arguments.pairs)
    if not given:
        raise ValueError("no pair is given: --image FILE --caption TEXT, or --pairs LIST.json")
    return given


def read_json(path: Path) -> Any:
    """The content of ``--pairs``.

    Raises:
        DataError: there is no such file, or it holds no JSON.
    """
    try:
        return json.loads(regular(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"--pairs {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"--pairs {path}: no JSON text ({error})") from error


def _of_list(path: Path) -> list[Given]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"--pairs {path}: expected a list of objects with image and caption")
    return [_of_row(path, number, row) for number, row in enumerate(rows)]


def _of_row(path: Path, number: int, row: Any) -> Given:
    where = f"--pairs {path}, row {number}"
    if not isinstance(row, dict) or not {"image", "caption"} <= row.keys():
        raise DataError(f"{where}: expected an object with image and caption")
    values: Sequence[Any] = [row.get(key, "") for key in _KEYS]
    for key, value in zip(_KEYS, values, strict=True):
        if not isinstance(value, str):
            raise DataError(f"{where}: {key} is {value!r}, expected text")
    return Given(path.parent / values[0], *values[1:])
