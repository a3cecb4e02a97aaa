"""Small files of JSON lines, and what is read of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tests.unit.data.raw import image_bytes, write
from vlp.data.jsonl.lanes import Lane, Position
from vlp.data.jsonl.lines import JsonLines


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    """A file with a line for each row; bytes and strings stay what they are."""
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    write(path, b"".join(line + b"\n" for line in lines))
    return path


def binary(seed: int = 0) -> str:
    """A readable image in base64."""
    return base64.b64encode(image_bytes(seed)).decode()


def pairs(path: Path, rows: int, **fields: Any) -> Path:
    """A file of pairs, row i with the caption "{stem} {i}"."""
    return write_lines(path, [{"binary": binary(i), "caption": f"{path.stem} {i}", **fields} for i in range(rows)])


def lines_of_pass(
    lines: JsonLines, turn: int, seed: int = 0, lanes: int = 1, positions: Sequence[Position] | None = None
) -> list[list[tuple[int, int]]]:
    """Of each lane, (file, offset) of every line of one pass."""
    shares = []
    for number in range(lanes):
        lane, share = Lane(lines, seed, number, lanes), []
        for at, line in islice(lane, 10_000):
            if at > turn:
                break
            if at == turn:
                share.append((line.file, line.offset))
        shares.append(share)
    return shares
