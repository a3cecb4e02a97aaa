"""Tables 1-5 in the paper's layout: printed and measured scores of each model, their difference, and EPIC's gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from reproduce.experiments import Cell, Experiments, Row
from reproduce.report.columns import Column, column
from reproduce.report.readings import Reading, Source

TITLES = {
    1: "Image-text retrieval on COCO and Flickr30k",
    2: "Zero-shot image-text retrieval on COCO",
    3: "VQAv2, NLVR2 and SNLI-VE",
    4: "Ablation of EPIC's parts, METER",
    5: "What replaces tokens, METER",
}
NAMES = ("baseline", "data", "epic", "variant")  # the keys of a printed row that are no columns
NOT_PRINTED = "–"
NOT_RUN = ""
Measure = Callable[[Cell], Reading | None]  # None: it has not been run


@dataclass(frozen=True)
class Entry:
    """What stands in a line under a column.

    Attributes:
        text: the number; empty where it was not run, a dash where the paper prints none.
        cell: "table1/meter-4m-epic/coco_ft_tr_r1" where it is printed or measured, empty where it is computed.
        source: where it is measured.
    """

    text: str
    cell: str = ""
    source: Source | None = None


@dataclass(frozen=True)
class Line:
    """Scores of a model, or its gain over vanilla; ``what`` is printed, measured or difference."""

    model: tuple[str, ...]
    variant: str
    what: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
        heads: what ``Line.model`` holds.
        notes: on what is printed.
    """

    number: int
    split: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"Table {self.number}. {TITLES[self.number]}"

    @property
    def sources(self) -> list[Source]:
        """The results files of its measured cells, by number."""
        found = {entry.source.number: entry.source for line in self.lines for entry in line.entries if entry.source}
        return [found[number] for number in sorted(found)]


def tables(experiments: Experiments, printed: Mapping[str, Any], measure: Measure) -> list[Table]:
    """All five.

    Args:
        printed: ``tables.json``.

    Raises:
        ValueError: the rows of the experiments are not those that are printed.
    """
    return [_table(number, experiments, printed, measure) for number in TITLES]


def _table(number: int, experiments: Experiments, printed: Mapping[str, Any], measure: Measure) -> Table:
    raw = printed[f"table{number}"]
    rows = [row for row in experiments.rows.values() if row.table == number]
    if len(rows) != len(raw):
        raise ValueError(f"table {number} has {len(raw)} rows in tables.json, {len(rows)} in experiments.yaml")
    columns = tuple(column(key) for key in raw[0] if key not in NAMES)
    variants = [_variant(each, row, columns, measure) for each, row in zip(raw, rows, strict=True)]
    return Table(
        number,
        split=printed["split"][f"table{number}"],
        heads=("Model", "Data") if "baseline" in raw[0] else (),
        columns=columns,
        lines=tuple(line for _, each in groupby(variants, key=lambda v: v.model) for line in _lines([*each], columns)),
        notes=tuple(printed["notes"].get(f"table{number}", ())),
    )


class _Variant(NamedTuple):
    """A row: its printed and its measured scores by column."""

    model: tuple[str, ...]  # empty in Tables 4 and 5, which have one in all
    name: str
    row: Row
    printed: Mapping[str, float]
    readings: Mapping[str, Reading]

    @property
    def comparable(self) -> dict[str, float]:
        """What was measured on the paper's data."""
        return {key: reading.value for key, reading in self.readings.items() if not reading.source.scale}

    def gains(self, vanilla: _Variant) -> dict[str, float]:
        """Of the measured scores, where both were measured on the same data."""
        both = {
            key: (reading, vanilla.readings[key]) for key, reading in self.readings.items() if key in vanilla.readings
        }
        return {key: a.value - b.value for key, (a, b) in both.items() if a.source.scale == b.source.scale}


def _variant(raw: Mapping[str, Any], row: Row, columns: tuple[Column, ...], measure: Measure) -> _Variant:
    name = raw.get("variant") or ("EPIC" if raw["epic"] else "vanilla")
    printed = {cell.column: cell.printed for cell in row.cells}
    if printed != {each.key: raw[each.key] for each in columns if raw[each.key] is not None}:
        raise ValueError(f"{row.name}: its printed numbers are not those of the same line, {name!r}, in tables.json")
    found = {cell.column: measure(cell) for cell in row.cells}
    readings = {key: reading for key, reading in found.items() if reading is not None}
    return _Variant((raw["baseline"], raw["data"]) if "baseline" in raw else (), name, row, printed, readings)


def _lines(variants: list[_Variant], columns: tuple[Column, ...]) -> Iterator[Line]:
    """Of a model: its variants and, where the first one is vanilla, what each other one gains."""
    vanilla = variants[0] if variants[0].row.variant == "vanilla" else None
    for each in variants:
        yield from _scores(each, columns)
        if vanilla is not None and each is not vanilla:
            yield from _gains(each, vanilla, columns)


def _scores(each: _Variant, columns: tuple[Column, ...]) -> Iterator[Line]:
    def cell(key: str) -> str:
        return f"{each.row.name}/{key}"

    printed = {key: Entry(f"{value:.1f}", cell(key)) for key, value in each.printed.items()}
    measured = {key: Entry(f"{one.value:.1f}", cell(key), one.source) for key, one in each.readings.items()}
    yield _line(each, each.name, "printed", columns, printed)
    yield _line(each, each.name, "measured", columns, measured)
    yield _line(each, each.name, "difference", columns, _signed(_minus(each.comparable, each.printed)))


def _gains(each: _Variant, vanilla: _Variant, columns: tuple[Column, ...]) -> Iterator[Line]:
    printed, measured = _minus(each.printed, vanilla.printed), each.gains(vanilla)
    comparable = {key: value for key, value in measured.items() if key in each.comparable}
    yield _line(each, "gain", "printed", columns, _signed(printed))
    yield _line(each, "gain", "measured", columns, _signed(measured))
    yield _line(each, "gain", "difference", columns, _signed(_minus(comparable, printed)))


def _line(each: _Variant, variant: str, what: str, columns: tuple[Column, ...], entries: Mapping[str, Entry]) -> Line:
    absent = {column.key: Entry(NOT_RUN if column.key in each.printed else NOT_PRINTED) for column in columns}
    return Line(each.model, variant, what, tuple(entries.get(column.key, absent[column.key]) for column in columns))


def _minus(scores: Mapping[str, float], others: Mapping[str, float]) -> dict[str, float]:
    """Where both exist."""
    return {key: value - others[key] for key, value in scores.items() if key in others}


def _signed(values: Mapping[str, float]) -> dict[str, Entry]:
    return {key: Entry(signed(value)) for key, value in values.items()}


def signed(value: float) -> str:
    """+1.8, −0.3 or 0.0."""
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else ("+" if value > 0 else "−") + text
