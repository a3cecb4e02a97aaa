"""What ``experiments.yaml`` says: stages, the rows of the paper's tables that they measure, and figures.

A stage is one command. Rows share stages: a vanilla model is a row of its own and the teacher of another one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from reproduce import templates
from vlp.config.nearest import did_you_mean
from vlp.config.schema import ConfigError
from vlp.files import read_json
from vlp.yaml_dialect.yaml_file import read_yaml

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parent
EXPERIMENTS = FOLDER / "experiments.yaml"
TABLES = FOLDER / "tables.json"

Kind = Literal["check", "prepare", "pretrain", "finetune", "evaluate"]
KINDS: tuple[str, ...] = get_args(Kind)
WITH_LISTS = ("albef", "xvlm")  # baselines of torchrun and YAML files, whose batch is that of a GPU
BY_SPLIT = ("vqa", "nlvr2", "snli_ve")  # what columns begin with that end with their split
_PLACEHOLDER = re.compile(r"\{(\w+)(?::([^{}]+))?\}")


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: also its folder below the output root.
        kind: "check" of data, "prepare" whatever else comes before, "pretrain", "finetune", "evaluate".
        baseline: the folder of the repository in which the command runs; empty: the repository itself.
        command: as the documents give it, with placeholders: {data} and {root} are the folders of the data and of the
            output, {output} is the stage's own folder, {folder:STAGE} another one's, {checkpoint:STAGE} what it leaves.
        after: stages that must be complete before.
        data: the data sets that it reads, as docs/data.md names them.
        gpus: of each of ``nodes`` machines, official numbers; 0: none.
        cost: a key of ``benchmarks.cost.RECIPES`` and the model's variant, or None.
        pairs: of the whole pre-training, where they are not the recipe's; 0: they are.
        checkpoint: the file that later stages start from, below the stage's folder; empty: none.
        found: a pattern below that folder; ``checkpoint`` is then a link to the newest file that it matches.
        scored: whether it leaves a results.json.
    """

    name: str
    kind: Kind
    baseline: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    gpus: int = 8
    nodes: int = 1
    cost: tuple[str, str] | None = None
    pairs: int = 0
    checkpoint: str = ""
    found: str = ""
    scored: bool = False


@dataclass(frozen=True)
class Cell:
    """A printed number and what measures it.

    Attributes:
        column: its name in tables.json, and in the block "paper" of results.json.
        printed: in percent.
        stage: whose results.json holds the measured one.
        split: "test", "val" or "dev"; of VQAv2 "test-dev" and "test-std", which its evaluation server scores.
    """

    column: str
    printed: float
    stage: str
    split: str


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: "table1/meter-4m-epic".
        table: 1 to 5.
        label: how the paper names the row: its baseline, or the variant in Tables 4 and 5.
        data: "4M", "16M+", as printed.
        variant: "vanilla", "epic", "itc_rand", …
        model: the part of its stages' names that is equal.
        cells: of its columns that are not empty in print.
        stages: all that it needs, in order.
    """

    name: str
    table: int
    label: str
    baseline: str
    data: str
    variant: str
    model: str
    cells: tuple[Cell, ...]
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A panel of a figure: its name and the command that draws it."""

    name: str
    title: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Places:
    """The folder of the data, and the output root."""

    data: Path
    root: Path

    def folder(self, stage: str) -> Path:
        """A stage's own."""
        return self.root / stage


@dataclass(frozen=True)
class Experiments:
    """All of it, by name."""

    stages: Mapping[str, Stage]
    rows: Mapping[str, Row]
    figures: Mapping[str, Figure]

    def stage(self, name: str) -> Stage:
        """Raises ConfigError: there is none of that name."""
        return _known(self.stages, name, "stage")

    def row(self, name: str) -> Row:
        """Raises ConfigError: there is none of that name."""
        return _known(self.rows, name, "row")

    def figure_command(self, figure: Figure, places: Places) -> list[str]:
        """With every placeholder filled; IMAGE and CAPTION are the reader's."""
        return [self._filled(word, figure.name, places) for word in figure.command]

    def needed(self, names: Iterable[str]) -> list[str]:
        """The stages of these names and all that come before them, in an order in which they can run."""
        order: dict[str, None] = {}

        def visit(name: str, trail: tuple[str, ...]) -> None:
            if name in trail:
                raise ConfigError(f"stage {name} comes after itself: {' -> '.join((*trail, name))}")
            if name not in order:
                for other in self.stage(name).after:
                    visit(other, (*trail, name))
                order[name] = None

        for name in names:
            visit(name, ())
        return list(order)

    def resolved(self, stage: Stage, places: Places, gpus: int | None = None, nodes: int | None = None) -> list[str]:
        """The command with every placeholder filled, for ``gpus`` of each of ``nodes`` machines."""
        words = [self._filled(word, stage.name, places) for word in stage.command]
        return on_machines(words, gpus or stage.gpus, nodes or stage.nodes) if stage.gpus else words

    def _filled(self, text: str, own: str, places: Places) -> str:
        def fill(match: re.Match[str]) -> str:
            name, other = match[1], match[2]
            if name == "checkpoint" and other:
                return str(places.folder(other) / self.stage(other).checkpoint)
            if name == "folder" and other:
                return str(places.folder(other))
            values = {"data": places.data, "root": places.root, "output": places.folder(own)}
            return str(values[name]) if name in values else match[0]

        return _PLACEHOLDER.sub(fill, text)


def on_machines(words: Sequence[str], gpus: int, nodes: int) -> list[str]:
    """A command for ``gpus`` of each of ``nodes`` machines: sacred's keys, or torchrun's flags."""
    numbers = {"num_gpus=": gpus, "num_nodes=": nodes, "--nproc_per_node=": gpus, "--nnodes=": nodes}
    changed = []
    for word in words:
        key = next((key for key in numbers if word.startswith(key)), None)
        changed.append(word if key is None else f"{key}{numbers[key]}")
    if changed[0] == "torchrun" and nodes > 1 and not any(word.startswith("--nnodes=") for word in changed):
        changed.insert(1, f"--nnodes={nodes}")
    return changed


def _known(all_of: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in all_of:
        raise ConfigError(f"there is no {what} {name!r}{did_you_mean(name, all_of)} (python -m reproduce list)")
    return all_of[name]


def printed_tables() -> dict[str, Any]:
    """The paper's cells, as ``tables.json`` has them."""
    return read_json(TABLES)


# Reading ----------------------------------------------------------------------------------------------------------


def load(path: Path = EXPERIMENTS) -> Experiments:
    """Read and check the file.

    Raises:
        ConfigError: naming the file, and the row or stage and the key that is wrong.
    """
    try:
        return _read(read_yaml(path))
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        lacks = f"{error.args[0]!r} is missing or no name" if isinstance(error, KeyError) else error
        raise ConfigError(f"{path}: {lacks}") from None


def _read(content: Mapping[str, Any]) -> Experiments:
    stages = {name: _stage(name, "", values) for name, values in templates.checks(content["checks"])}
    for name, baseline, values in templates.stages(content["families"]):
        stages[name] = _stage(name, baseline, values)
    figures = {name: _figure(name, values) for name, values in content["figures"].items()}
    all_of = Experiments(stages, {}, figures)
    for stage in stages.values():
        for other in stage.after:
            if other not in stages:
                raise ConfigError(f"stage {stage.name}: comes after {other!r}{did_you_mean(other, stages)}")
    tables = printed_tables()
    rows = {name: _row(name, values, content["families"], tables, all_of) for name, values in content["rows"].items()}
    needed = all_of.needed(
        [
            *(stage for row in rows.values() for stage in row.stages),
            *(stage for figure in figures.values() for stage in figure.after),
        ]
    )
    return Experiments({name: stages[name] for name in needed}, rows, figures)


def _stage(name: str, baseline: str, values: Mapping[str, Any]) -> Stage:
    if values.get("kind") not in KINDS:
        raise ConfigError(f"stage {name}: kind={values.get('kind')!r} is none of {', '.join(KINDS)}")
    command, data = tuple(shlex.split(values["command"])), tuple(values.get("data") or ())
    read = [match[2] for word in command for match in _PLACEHOLDER.finditer(word) if match[2]]
    after = (*(f"data/{each}" for each in data), *values.get("after", ()), *read)
    return Stage(
        name=name,
        kind=values["kind"],
        baseline=values.get("folder", baseline),
        command=command,
        after=tuple(dict.fromkeys(after)),
        data=data,
        gpus=int(values.get("gpus", 8)),
        nodes=int(values.get("nodes", 1)),
        cost=tuple(values["cost"]) if values.get("cost") else None,
        pairs=values.get("pairs", 0),
        checkpoint=values.get("checkpoint", ""),
        found=values.get("found", ""),
        scored=values.get("scored", values["kind"] == "evaluate"),
    )


def _figure(name: str, values: Mapping[str, Any]) -> Figure:
    command = tuple(shlex.split(values["command"]))
    read = [match[2] for word in command for match in _PLACEHOLDER.finditer(word) if match[2]]
    return Figure(name, values["title"], command, tuple(dict.fromkeys(read)))


def _row(
    name: str, values: Mapping[str, Any], families: Mapping[str, Any], tables: Mapping[str, Any], all_of: Experiments
) -> Row:
    table, printed, model = name.split("/")[0], values["printed"], values["model"]
    found = [line for line in tables[table] if all(line.get(key) == value for key, value in printed.items())]
    if len(found) != 1:
        raise ConfigError(f"row {name}: printed={printed} is {len(found)} lines of {table} in {TABLES.name}, not one")
    family, own = _family(name, model, families)
    columns = [column for column, value in found[0].items() if isinstance(value, float)]
    cells = tuple(_cell(name, column, found[0][column], model, family) for column in columns)
    try:
        stages = all_of.needed(dict.fromkeys(cell.stage for cell in cells))
    except ConfigError as error:
        raise ConfigError(f"row {name}: {error}") from None
    return Row(
        name=name,
        table=int(table.removeprefix("table")),
        label=printed.get("baseline") or printed["variant"],
        baseline=family["baseline"],
        data=printed.get("data", "4M"),
        variant=own["variant"],
        model=model,
        cells=cells,
        stages=tuple(stages),
    )


def _family(row: str, model: str, families: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The family of a row's model, and the model's own fields."""
    for name, family in families.items():
        if own := family["models"].get(model.removeprefix(f"{name}/")):
            return family, own
    raise ConfigError(f"row {row}: no family has the model {model!r}")


def _cell(row: str, column: str, printed: float, model: str, family: Mapping[str, Any]) -> Cell:
    """Which stage measures a column, and under which name: ``coco_ft_tr_r1``, ``nlvr2_dev``, ``vqa_test_std``."""
    for begin, stage in family["cells"].items():
        if column.startswith(f"{begin}_"):
            rest = column.removeprefix(f"{begin}_")
            split = rest.replace("_", "-") if begin in BY_SPLIT else family["fields"]["split"]
            return Cell(column, printed, f"{model}/{stage}", split)
    raise ConfigError(f"row {row}: no key of the family's cells begins {column!r}")
