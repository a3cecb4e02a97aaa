"""What goes into a checkout, and the command that puts it there, has nothing that Python 3.10 has not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = [
    *sorted((ROOT / "epic_common").rglob("*.py")),
    *sorted((ROOT / "patches").rglob("*.py")),
    ROOT / "tests" / "official" / "probe.py",
]
MODULES = {"tomllib"}
NAMES = {  # module: what it has from 3.11 on
    "asyncio": {"TaskGroup", "Runner", "timeout"},
    "calendar": {"Month", "Day"},
    "contextlib": {"chdir"},
    "copy": {"replace"},
    "datetime": {"UTC"},
    "enum": {"StrEnum", "ReprEnum", "EnumCheck", "verify", "member", "nonmember"},
    "functools": {"Placeholder"},
    "hashlib": {"file_digest"},
    "itertools": {"batched"},
    "operator": {"call"},
    "typing": {
        *("Self", "Never", "LiteralString", "Required", "NotRequired", "TypeVarTuple", "Unpack", "assert_never"),
        *("assert_type", "reveal_type", "dataclass_transform", "override", "TypeAliasType", "ReadOnly", "TypeIs"),
    },
    "warnings": {"deprecated"},
}
BUILTINS = {"ExceptionGroup", "BaseExceptionGroup", "PythonFinalizationError"}
METHODS = {"add_note", "walk"}  # of exceptions and of pathlib.Path


def too_new(source: str) -> list[str]:
    """What Python 3.10 has not, by line."""
    try:
        tree = ast.parse(source, feature_version=(3, 10))
    except SyntaxError as error:
        return [f"{error.lineno}: {error.msg}"]
    found = []
    for node in ast.walk(tree):
        names: set[str] = set()
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {alias.name for alias in node.names} & NAMES.get(node.module, set()) | {node.module} & MODULES
        elif isinstance(node, ast.Attribute):
            of = node.value.id if isinstance(node.value, ast.Name) else ""
            names = {node.attr} & (NAMES.get(of, set()) | METHODS - ({"walk"} if of in ("ast", "os") else set()))
        elif isinstance(node, ast.Name):
            names = {node.id} & BUILTINS
        found += [f"{getattr(node, 'lineno', 0)}: {name}" for name in sorted(names)]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_newer(path: Path) -> None:
    assert too_new(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from typing import Any, Self",
        "import tomllib",
        "from enum import StrEnum",
        "import datetime\nnow = datetime.datetime.now(datetime.UTC)",
        "import hashlib\nhashlib.file_digest(f, 'sha256')",
        "try:\n    pass\nexcept* ValueError:\n    pass",
        "error.add_note('x')",
        "raise ExceptionGroup('x', [])",
    ],
)
def test_what_is_newer_is_found(source: str) -> None:
    assert too_new(source)
