"""The tables of the documents are those of the measured files."""

from __future__ import annotations

from pathlib import Path

from benchmarks.baseline import VARIANTS
from benchmarks.cost import MEASURED
from benchmarks.documents import HEADINGS, OF_REGIONS, TITLES, cost_table, readme_table, rows_of

ROOT = Path(__file__).parents[3]


def tables(page: str) -> list[str]:
    """Every table of a page, as text."""
    blocks: list[list[str]] = [[]]
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return ["\n".join(block) for block in blocks if block]


def test_the_page_on_cost_prints_what_was_measured() -> None:
    assert "\n".join(cost_table()) in tables("docs/cost.md")


def test_the_readme_prints_the_flops_that_were_counted() -> None:
    assert "\n".join(readme_table()) in tables("README.md")


def test_every_measured_file_and_variant_is_printed() -> None:
    steps = {file.stem for file in MEASURED.glob("*.json")} - {"conversion"}
    assert set(TITLES) == steps
    assert [*HEADINGS, *OF_REGIONS.values()] == list(VARIANTS)


def test_rows_by_hand() -> None:
    """A baseline without a momentum model has no such step."""
    result = {
        "flops": dict(zip(HEADINGS, (1.0, 0.7041, 1.7, 0.98, 0.9996, None), strict=True)),
        "seconds": dict(zip(HEADINGS, (1.0, 0.708, 1.7, 0.999, 0.904, None), strict=True)),
        "seconds_spread": {name: [1.0, 1.0] if name == "vanilla_official" else [0.7, 0.75] for name in HEADINGS},
        "memory": dict.fromkeys(HEADINGS),
        "operations": dict(zip(HEADINGS, (5400, 4000, 9700, 8901, 8000, None), strict=True)),
        "host_waits": dict(zip(HEADINGS, (2, 0, 11, 0, 0, None), strict=True)),
    }
    assert list(rows_of(result, "METER")) == [
        "| METER | 1 | 0.704 | 1.700 | 0.980 | 1.000 | – |",
        "| – time | 1 | 0.71 (0.70–0.75) | 1.70 (0.70–0.75) | 1.00 (0.70–0.75) | 0.90 (0.70–0.75) | – |",
        "| – operations | 5,400 | 4,000 | 9,700 | 8,901 | 8,000 | – |",
        "| – host waits | 2 | 0 | 11 | 0 | 0 | – |",
    ]


def test_the_region_stream_has_a_row_of_its_own() -> None:
    """Its two steps stand under the headings of the official one and of ours, as ratios to the step of images."""
    flops = {"vanilla_official": 1.0, "vanilla": 0.7, "epic": 0.99, "region_official": 0.75, "region": 0.39}
    assert list(rows_of({"flops": flops}, "X-VLM")) == [
        "| X-VLM | 1 | 0.700 | – | 0.990 | – | – |",
        "| – a step of the region stream | 0.750 | 0.390 | – | – | – | – |",
    ]
