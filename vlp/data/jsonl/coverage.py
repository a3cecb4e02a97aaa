"""How much of the published data sets a run's files of JSON lines hold, as far as the conversion's manifest says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlp.data.jsonl.lines import JsonLines
from vlp.data.published import LINES, coverage
from vlp.files import read_json


def coverage_of(lines: JsonLines) -> list[dict[str, Any]]:
    """Rows of each file or folder that was given, their published number and the share of it that is there.

    No file is read, since they may be terabytes: the rows are those that the manifest beside a folder counts; None
    where there is none, or where it is of other files.
    """
    files: dict[str, list[tuple[Path, int]]] = {}
    for group, path, (_, size) in zip(lines.groups, lines.files, lines.identity(), strict=True):
        files.setdefault(group, []).append((path, size))
    return [_entry(group, group_files) for group, group_files in files.items()]


def _entry(name: str, files: list[tuple[Path, int]]) -> dict[str, Any]:
    folder = files[0][0].parent
    rows = _rows_of(folder, {path.name: size for path, size in files})
    known = rows is not None
    return {"name": name, "rows": rows, **coverage(LINES if known else {}, [folder.name], rows)}


def _rows_of(folder: Path, sizes: dict[str, int]) -> int | None:
    """The rows of a folder's files by the manifest of the conversion that wrote them."""
    try:
        written = read_json(folder.with_name(f"{folder.name}.manifest.json"))["files"]
        if {name: record["bytes"] for name, record in written.items()} != sizes:
            return None
        return sum(int(record["rows"]) for record in written.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
