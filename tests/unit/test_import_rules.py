"""Dependencies point one way: baselines use epic_common and vlp, which know neither a baseline nor each other.

epic_vlp joins the two and knows no baseline; whoever wants EPIC without vlp, or vlp without EPIC, can do without it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from patches.tree import present

ROOT = Path(__file__).parents[2]
BASELINES = set(present())
OURS = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} | BASELINES | {"reproduce"}
USE_ALL = {"demo", "benchmarks", "reproduce", "tests"}
METHOD_MAY_USE = {
    *("epic_common", "torch", "transformers", "tokenizers", "safetensors", "rich"),
    *("pydantic", "annotated_types"),  # of its configuration
}


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
def test_the_method_needs_little_beside_torch_and_transformers(path: Path) -> None:
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


def test_the_scenes_need_nothing_of_ours() -> None:
    assert files("scenes")
    library = [path for path in files("scenes") if path.name != "__main__.py"]  # the command prints as all of ours do
    foreign = {name for path in library for name in imported(path, "scenes")} & (OURS - {"scenes"})
    assert not foreign


def test_training_in_an_official_checkout_needs_little_of_what_the_method_may_use() -> None:
    """epic_common is copied there, into an environment that its own code base chose."""
    known = {name: path for name, path in modules().items() if name.split(".")[0] == "epic_common"}
    reached, open_ends = set[str](), {"epic_common.checkout"}
    while open_ends:
        name = open_ends.pop()
        reached.add(name)
        parents = {name.rsplit(".", i)[0] for i in range(1, name.count(".") + 1)}
        open_ends |= (parents | module_imports(name, known[name], known)) - reached
    assert len(reached) > 10 and "epic_common.language_models.fit" not in reached
    needed = {foreign for name in reached for foreign in imported(known[name], "epic_common")}
    needed -= {"epic_common", *sys.stdlib_module_names}
    assert needed == {"torch", "transformers", "pydantic", "annotated_types"}


# No circles -----------------------------------------------------------------------------------------------------


def modules() -> dict[str, Path]:
    """Every module of ours but the tests, by its dotted name; a package is its ``__init__``."""
    paths = [path for package in sorted(OURS - {"tests"}) for path in files(package)]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def module_imports(name: str, path: Path, known: Iterable[str]) -> set[str]:
    """The modules among ``known`` that a file imports, wherever the import stands and if only for types."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide where a module lies"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return (found & set(known)) - {name}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A circle of imports, its first module last again; empty if there is none."""
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name not in done:
            for other in sorted(graph[name]):
                if found := walk(other, [*trail, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


def test_imports_go_down_only() -> None:
    known = modules()
    graph = {name: module_imports(name, path, known) for name, path in known.items()}
    assert len(graph) > 150 and graph["meter.modules.meter_module"] >= {"meter.modules.objectives"}
    assert not circle(graph), " -> ".join(circle(graph))


DATA_ROOMS = {  # what each may import of vlp, beside itself and the files in vlp/data that both formats share
    "conversion": (),
    "raw": ("vlp.data.conversion",),
    "arrow": ("vlp.data.conversion", "vlp.data.raw"),
    "json": (
        *("vlp.data.conversion", "vlp.data.raw"),
        *("vlp.config.schema", "vlp.yaml_dialect.yaml_file"),  # a recipe, whose lists are checked
    ),
    "jsonl": (
        *("vlp.data.conversion", "vlp.data.raw", "vlp.data.json", "vlp.distributed"),
        *("vlp.config.schema", "vlp.yaml_dialect.yaml_file"),  # a recipe, whose files are checked
    ),
    "tokenizers": (
        "vlp.checkpoint.folder",
        "vlp.checkpoint.errors",
        "vlp.hub",
    ),  # a folder of theirs holds weights, too
}


# What it prints, where it writes, what it reads.
EVERY_COMMAND = {"vlp.safe_output", "vlp.console", "vlp.progress", "vlp.owner", "vlp.files"}


def test_data_goes_from_raw_layouts_to_the_formats_and_needs_no_engine() -> None:
    known = modules()
    shared = {f"vlp.data.{path.stem}" for path in (ROOT / "vlp/data").glob("[!_]*.py")}
    assert {"vlp.data.raw.records", "vlp.data.images", "vlp.data.arrow.rows"} <= set(known)
    for name, path in known.items():
        if name.startswith("vlp.data."):
            room = name.split(".")[2]
            allowed = (f"vlp.data.{room}", *DATA_ROOMS.get(room, ()))
            found = module_imports(name, path, known) - shared - {"vlp", "vlp.data"} - EVERY_COMMAND
            foreign = [other for other in sorted(found) if not f"{other}.".startswith(tuple(f"{a}." for a in allowed))]
            assert not foreign, f"{name} imports {foreign}"


def test_a_circle_is_found_however_long(tmp_path: Path) -> None:
    late = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.a import A\n"
    for name, text in {"a": "from pack import b\n", "b": "def f():\n    import pack.c\n", "c": late}.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    names = [f"pack.{name}" for name in "abc"]
    graph = {name: module_imports(name, tmp_path / f"{name[-1]}.py", names) for name in names}
    assert circle(graph) == ["pack.a", "pack.b", "pack.c", "pack.a"]
    assert not circle({**graph, "pack.c": set()})


def test_nothing_imports_apex() -> None:
    """Mixed precision is torch's own; what PyPI calls apex is another project. X-VLM loads NVIDIA's if asked."""
    paths = [path for package in sorted(OURS) for path in files(package)]
    assert len(paths) > 100
    paths = [path for path in paths if "stubs" not in path.parts]  # of X-VLM's tests, which stand in for it
    assert not [str(path.relative_to(ROOT)) for path in paths if "apex" in imported(path, path.parent.name)]


def test_a_broken_rule_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "bad.py"
    source.write_text("def late():\n    from meter.config import ex\n    import vlp.nn as nn\n", encoding="utf-8")
    assert set(imported(source, "epic_common")) == {"meter", "vlp"}
