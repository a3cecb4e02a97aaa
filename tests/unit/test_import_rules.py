"""Dependencies point one way: baselines use epic_common and vlp, which know neither a baseline nor each other.

epic_vlp joins the two and knows no baseline; whoever wants EPIC without vlp, or vlp without EPIC, can do without it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASELINES = {"meter", "vilt", "albef", "xvlm"}
OURS = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} | BASELINES | {"reproduce"}
USE_ALL = {"demo", "benchmarks", "reproduce", "tests"}
METHOD_MAY_USE = {"epic_common", "torch", "transformers", "tokenizers", "safetensors", "rich"}


def imported(path: Path, package: str) -> Iterator[str]:
    """Top-level names that a file imports, wherever the import stands; a relative import counts as the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield package if node.level else (node.module or "").split(".")[0]


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_the_rules_look_at_something() -> None:
    assert {"epic_common", "epic_vlp", "vlp", "meter"} <= OURS
    assert len(files("epic_common")) > 10 and len(files("vlp")) > 10
    assert len(files("epic_vlp")) > 5


@pytest.mark.parametrize("path", files("epic_common"), ids=lambda path: path.name)
def test_the_method_needs_torch_and_transformers_alone(path: Path) -> None:
    foreign = set(imported(path, "epic_common")) - METHOD_MAY_USE - set(sys.stdlib_module_names)
    assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"


@pytest.mark.parametrize("path", files("vlp"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_shared_parts_know_neither_a_baseline_nor_the_method(path: Path) -> None:
    forbidden = set(imported(path, "vlp")) & (OURS - {"vlp"})
    assert not forbidden, f"{path.relative_to(ROOT)} imports {sorted(forbidden)}"


@pytest.mark.parametrize("path", files("epic_vlp"), ids=lambda path: path.name)
def test_what_joins_the_method_and_the_shared_parts_knows_no_baseline(path: Path) -> None:
    forbidden = set(imported(path, "epic_vlp")) & (OURS - {"epic_vlp", "epic_common", "vlp"})
    assert not forbidden, f"{path.relative_to(ROOT)} imports {sorted(forbidden)}"


def test_baselines_alone_are_built_on_what_joins_them() -> None:
    users = {package for package in OURS for path in files(package) if "epic_vlp" in imported(path, package)}
    assert "meter" in users and users <= {"epic_vlp"} | BASELINES | USE_ALL


def test_nothing_imports_apex() -> None:
    """Mixed precision is torch's own; what PyPI calls apex is another project."""
    paths = [path for package in sorted(OURS) for path in files(package)]
    assert len(paths) > 100
    assert not [str(path.relative_to(ROOT)) for path in paths if "apex" in imported(path, path.parent.name)]


def test_a_broken_rule_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "bad.py"
    source.write_text("def late():\n    from meter.config import ex\n    import vlp.nn as nn\n", encoding="utf-8")
    assert set(imported(source, "epic_common")) == {"meter", "vlp"}
