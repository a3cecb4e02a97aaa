"""``python -m benchmarks.documents``: the tables of docs/cost.md and README.md from ``benchmarks/measured``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.cost import MEASURED, OFFICIAL_REGION, REGION
from benchmarks.table import Column, figure
from vlp.safe_output import make_output_safe

HEADINGS = {
    "vanilla_official": "vanilla, official",
    "vanilla": "vanilla, ours",
    "epic_naive": "EPIC, naive",
    "epic": "EPIC, ours",
    "epic_cached": "EPIC, saliency cache",
    "epic_momentum": "EPIC, momentum model",
}
# The step of a baseline's region stream, under the names of its step of images.
OF_REGIONS = {"vanilla_official": OFFICIAL_REGION, "vanilla": REGION}
TITLES = {
    "meter_official": "METER, CLIP-B/16, 288 px",
    "meter_ablation": "METER, CLIP-B/32, 224 px",
    "vilt_official": "ViLT, 384 × 384",
    "vilt_widest": "ViLT, 384 × 608",
    "albef_official": "ALBEF, ViT-B/16, 256 px",
    "xvlm_official": "X-VLM, Swin-B, 224 px",
}
FLOPS = Column("", "flops", ".3f")
RAN = (
    Column("time", "seconds", ".2f", "seconds_spread"),
    Column("peak memory", "memory", ".2f"),
    Column("peak memory, accumulating", "memory_accumulating", ".2f"),
    Column("operations", "operations", ",d"),
    Column("host waits", "host_waits", "d"),
)


def cost_table() -> Iterator[str]:
    """The lines of docs/cost.md's table: FLOPs of every size, and what was measured of it."""
    yield from _header(HEADINGS)
    for name in TITLES:
        yield from rows_of(_measured(name), TITLES[name])


def rows_of(result: Mapping[str, Any], title: str) -> Iterator[str]:
    """A row of FLOPs and one for every other figure that it holds, then those of the region stream's step, if any."""
    yield _row(title, FLOPS, result, HEADINGS)
    measured = [column for column in RAN if any(value is not None for value in result.get(column.key, {}).values())]
    for column in measured:
        yield _row(f"– {column.title}", column, result, HEADINGS)
    if OF_REGIONS["vanilla"] in result["flops"]:
        yield _row("– a step of the region stream", FLOPS, _of_regions(result, FLOPS), HEADINGS)
        for column in measured:
            yield _row(f"– its {column.title}", column, _of_regions(result, column), HEADINGS)


def _of_regions(result: Mapping[str, Any], column: Column) -> dict[str, Any]:
    """The figures of the region stream's step under the names of the step of images."""
    keys = (column.key, column.spread) if column.spread else (column.key,)
    return {key: {name: result[key].get(step) for name, step in OF_REGIONS.items()} for key in keys}


def readme_table() -> Iterator[str]:
    """The lines of the README's table: FLOPs alone, as ratios to the official step."""
    shown = [name for name in HEADINGS if name != "vanilla_official"]
    yield from _header(shown)
    for name in TITLES:
        yield _row(TITLES[name], FLOPS, _measured(name), shown)


def _measured(name: str) -> dict[str, Any]:
    return json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))


def _header(variants: Sequence[str] | Mapping[str, str]) -> Iterator[str]:
    yield _line("", *(HEADINGS[name] for name in variants))
    yield _line("---", *["---:"] * len(variants))


def _row(title: str, column: Column, result: Mapping[str, Any], variants: Sequence[str] | Mapping[str, str]) -> str:
    spreads = result.get(column.spread, {})
    values = {name: result[column.key].get(name) for name in variants}
    # Exactly 1: what the others are measured against.
    cells = ("1" if value == 1.0 else figure(value, column.form, spreads.get(name)) for name, value in values.items())
    return _line(title, *cells)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


if __name__ == "__main__":
    make_output_safe()
    print(*cost_table(), "", *readme_table(), sep="\n")
