"""The step benchmark's tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.baseline import VARIANTS
from vlp.console import stdout_console


class Column(NamedTuple):
    """Figures of the result; ``spread`` names those of their range."""

    title: str
    key: str
    form: str  # as of format()
    spread: str = ""


RATIOS = (
    Column("FLOPs", "flops", ".3f"),
    Column("time", "seconds", ".3f", "seconds_spread"),
    Column("memory", "memory", ".3f"),
    Column("accum.", "memory_accumulating", ".3f"),
)
VALUES = (
    Column("GFLOP", "gflop_per_pair", ".2f"),
    Column("s", "seconds_per_pair", ".2f", "seconds_per_pair_spread"),
    Column("GiB", "peak_gib", ".2f"),
    Column("accum.", "peak_accumulating_gib", ".2f"),
    Column("ops", "operations", ",d"),
    Column("waits", "host_waits", "d"),
    Column("TFLOP/s", "tflop_per_second", ".1f"),
    Column("of the peak", "share_of_peak", ".0%"),
)


def print_tables(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Ratios to the first variant, the values behind them, and GFLOP per pair by part of the model."""
    console = console or stdout_console()
    settings = result["settings"]
    tokens, off = settings["counted_tokens"], settings.get("without")
    title = f"{settings['baseline']}, {settings['size']}" + (f", without {' and '.join(off)}" if off else "")
    for heading, columns in (
        ("ratios to the official step", RATIOS),
        ("a pair, memory and operations of a step", VALUES),
    ):
        console.print(f"{title}: {heading}", _table(columns, result), soft_wrap=True, highlight=False)
    by_part = result["gflop_per_pair_by_part"]
    parts = Table("GFLOP per pair", *by_part)
    for part in dict.fromkeys(part for found in by_part.values() for part in found):
        parts.add_row(part, *(figure(found.get(part), ".2f") for found in by_part.values()))
    console.print(parts)
    for line in (
        *(f"{name}: {VARIANTS[name]}" for name in by_part),
        f"{sum(tokens) / len(tokens):.1f} tokens a sentence; FLOPs counted over {len(tokens)} pairs a step.",
        _how_measured(result),
    ):
        console.print(line, soft_wrap=True, highlight=False)


def _how_measured(result: Mapping[str, Any]) -> str:
    if result["not_measured"]:
        return f"time, memory and operations not measured: {result['not_measured']}"
    settings = result["settings"]
    return (
        f"Measured with {len(settings['timed_tokens'])} pairs a step: time as the median of {settings['repetitions']} "
        "repetitions (lowest–highest), ratios within each; memory at the peak of steps after the first, and "
        "accum. = on top of the gradients of the step before; waits = operations that a GPU's host waits for."
    )


def _table(columns: Sequence[Column], result: Mapping[str, Any]) -> Table:
    """The columns that were measured."""
    measured = [column for column in columns if any(v is not None for v in result.get(column.key, {}).values())]
    table = Table("step", *(column.title for column in measured))
    for name in result["flops"]:
        cells = (
            figure(result[c.key][name], c.form, result.get(c.spread, {}).get(name) if c.spread else None)
            for c in measured
        )
        table.add_row(name, *cells)
    return table


def figure(value: float | None, form: str, spread: Sequence[float] | None = None) -> str:
    """A number, with its range where it has one: ``0.97 (0.95–1.01)``."""
    if value is None:
        return "–"
    if spread is None or spread[0] == spread[1]:
        return f"{value:{form}}"
    return f"{value:{form}} ({spread[0]:{form}}–{spread[1]:{form}})"
