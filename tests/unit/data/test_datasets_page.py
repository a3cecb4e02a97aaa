"""Every command of docs/datasets.md, run on scenes in the raw layouts, writes what the recipes name."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from meter.config import ex as meter
from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import LAYOUTS, write_tasks
from tests.unit.data.img2dataset import Link, write_download
from vlp.data.arrow.__main__ import main as arrow
from vlp.data.arrow.registry import get_spec, table_files
from vlp.data.json.__main__ import main as lists
from vlp.data.jsonl.__main__ import main as lines

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/datasets.md").read_text(encoding="utf-8")
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "vlp.data.arrow": arrow,
    "vlp.data.json": lists,
    "vlp.data.jsonl": lines,
}
WEB = {"sbu": ("sbu",), "gcc": ("train", "val"), "cc12m": ("cc12m",)}


def commands() -> dict[str, list[list[str]]]:
    """The commands of each section's table, as words behind ``python -m``."""
    found: dict[str, list[list[str]]] = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        rows = [line for line in section.splitlines() if line.startswith("| ")]
        words = [shlex.split(command)[2:] for row in rows for command in re.findall(r"`(python -m [^`]+)`", row)]
        if words:
            found[section.splitlines()[0]] = words
    return found


def run(words: list[str], raw: Path, output: Path) -> int:
    """Run a command with the folders that the page calls RAW and ARROW_ROOT, and those of the baselines' data."""
    places = {"RAW": str(raw), "ARROW_ROOT": str(output / "arrow")}
    folders = [re.sub(r"^(RAW|ARROW_ROOT)(?=/|$)", lambda match: places[match[1]], word) for word in words[1:]]
    arguments = [str(output / word) if word.startswith(("albef/", "xvlm/")) else word for word in folders]
    return COMMANDS[words[0]](arguments)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in every layout; COCO's has the annotations of objects."""
    folder = tmp_path_factory.mktemp("raw")
    write_coco(folder / "scenes", Request(train=24, val=6, test=6, captions=2, image_size=32, seed=5))
    write_tasks(folder / "scenes", folder / "all", tuple(LAYOUTS))
    (folder / "all/coco_objs").rename(folder / "all/coco")
    return folder / "all"


@pytest.fixture(scope="module")
def output(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all commands of the page write, each run once."""
    folder = tmp_path_factory.mktemp("output")
    words = {tuple(words) for table in commands().values() for words in table}
    for each in sorted(words):
        assert run(list(each), raw, folder) == 0, each
    return folder


def test_every_recipe_has_a_table() -> None:
    tables = {section: len(table) for section, table in commands().items()}
    assert tables == {"4M": 12, "16M": 3, "4M+": 3, "16M+": 3, "Downstream": 22}


def named(values: object) -> Iterator[str]:
    """Every path below ``data/`` in a recipe."""
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from named(value)
    elif isinstance(values, str) and values.startswith("data/"):
        yield values


@pytest.mark.parametrize("baseline", ["albef", "xvlm"])
def test_the_recipes_find_their_files(baseline: str, output: Path) -> None:
    missing: dict[str, list[str]] = {}
    recipes = sorted((ROOT / baseline / "configs").glob("*.yaml"))
    for path in recipes:
        content = yaml.safe_load(path.read_text())
        content.pop("coco_file", None)  # without effect
        data = {key: value for key, value in content.items() if "file" in key or key == "answer_list"}
        lacks = [name for name in named(data) if not (output / baseline / name).exists()]
        missing |= {path.name: lacks} if lacks else {}
    assert len(recipes) > 10 and not missing


def test_tables_of_every_data_set_are_there(output: Path) -> None:
    for recipe, keys in meter.named_configs.items():
        config = keys() if recipe.startswith(("task_", "data_")) else {}
        for key in config.get("datasets", ()):
            for split in ("train", "val", "test"):
                table_files(get_spec(key), split, output / "arrow")


def test_web_sets_may_be_shards(raw: Path, tmp_path: Path) -> None:
    """The commands of SBU, CC3M and CC12M on tars that hold the same images and captions write the same rows."""
    for layout, splits in WEB.items():
        for split in splits:
            prefix = split if layout == "gcc" else "train"
            annotation = raw / layout / ("annot.json" if layout == "sbu" else f"{prefix}_annot.json")
            made = [
                Link(Path(name).stem, (raw / layout / f"images_{prefix}" / name).read_bytes(), caption)
                for name, caption in json.loads(annotation.read_text())
            ]
            target = tmp_path / "raw" / layout / (split if layout == "gcc" else "")
            write_download(target, "webdataset", [made[:2], made[2:]])
    chosen = [
        words
        for section in ("4M", "16M")
        for words in commands()[section]
        if words[words.index("--root") + 1].removeprefix("RAW/") in WEB
    ]
    assert len(chosen) == 9
    for words in chosen:
        assert run(words, tmp_path / "raw", tmp_path / "shards") == (words[0] == "vlp.data.json"), words
        if words[0] != "vlp.data.json":  # lists name files
            assert run(words, raw, tmp_path / "files") == 0
    for key in ("sbu", "cc3m", "cc12m"):
        rows = [
            sorted(line for path in (folder / "xvlm/data/pretrain_4m" / key).iterdir() for line in path.open())
            for folder in (tmp_path / "shards", tmp_path / "files")
        ]
        assert rows[0] == rows[1] and rows[0]
