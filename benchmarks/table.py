"""The step benchmark's tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.baseline import VARIANTS


def print_tables(result: Mapping[str, Any]) -> None:
    """Ratios to the first variant, the values behind them, and GFLOP per pair by part of the model."""
    settings, console = result["settings"], Console()
    tokens = settings["counted_tokens"]
    costs = Table(
        *("step", "FLOPs", "time", "memory", "GFLOP", "s", "GiB"),
        title=f"{settings['baseline']}, {settings['size']}: a training pair, ratios to the official step",
        caption=f"{sum(tokens) / len(tokens):.1f} tokens a sentence; GFLOP and s per pair, counted over {len(tokens)} "
        f"and timed over {len(settings['timed_tokens'])} pairs a step; GiB at the step's peak",
    )
    for name in VARIANTS:
        ratios = [_number(result[kind][name], 3) for kind in ("flops", "seconds", "memory")]
        values = [_number(result[kind][name], 2) for kind in ("gflop_per_pair", "seconds_per_pair", "peak_gib")]
        costs.add_row(name, *ratios, *values)
    by_part = result["gflop_per_pair_by_part"]
    parts = Table("GFLOP per pair", *VARIANTS)
    for part in dict.fromkeys(part for found in by_part.values() for part in found):
        parts.add_row(part, *(_number(found.get(part), 2) for found in by_part.values()))
    console.print(costs, parts)
    for name, meaning in VARIANTS.items():
        console.print(f"{name}: {meaning}", soft_wrap=True)
    if result["not_measured"]:
        console.print(f"time and memory not measured: {result['not_measured']}", soft_wrap=True)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
