"""Imports inside ``vlp.data`` go down only, those for types alone included: raw -> Arrow or JSON, never back."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vlp.data

ROOT = Path(vlp.data.__file__).parents[2]
ABOVE = {  # what a room must not import
    "conversion": {"raw", "arrow", "json"},
    "raw": {"arrow", "json"},
    "arrow": {"json"},
    "json": {"arrow"},
}
BESIDE = {"vlp.files"}  # all that the data code takes from elsewhere in vlp


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in sorted((ROOT / "vlp/data").rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """The modules of vlp that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & MODULES.keys()) or {node.module or ""}
    return {name for name in found if name.startswith("vlp")}


GRAPH = {name: imported(path) for name, path in MODULES.items()}


def test_the_files_are_seen() -> None:
    assert "vlp.data.raw.records" in GRAPH["vlp.data.arrow.rows"] and "vlp.files" in GRAPH["vlp.data.arrow.writer"]


@pytest.mark.parametrize("room", ABOVE)
def test_a_room_knows_none_above_or_beside_it(room: str) -> None:
    forbidden = tuple(f"vlp.data.{name}." for name in ABOVE[room])
    upward = {
        (name, other)
        for name, others in GRAPH.items()
        for other in others
        if name.startswith(f"vlp.data.{room}") and f"{other}.".startswith(forbidden)
    }
    assert not upward


def test_data_knows_no_other_part_of_vlp() -> None:
    others = {other for found in GRAPH.values() for other in found if not f"{other}.".startswith("vlp.data.")}
    assert others <= BESIDE


def test_there_is_no_circle() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names the circle
