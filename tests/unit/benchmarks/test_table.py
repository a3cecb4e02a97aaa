"""The printed tables, of a result made by hand."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from benchmarks.baseline import VARIANTS
from benchmarks.table import print_tables


def result() -> dict[str, Any]:
    """As of a CPU."""
    return {
        "flops": dict.fromkeys(VARIANTS, 1.0) | {"epic": 0.98},
        "seconds": dict.fromkeys(VARIANTS, 1.0) | {"epic": 0.964, "epic_naive": None},
        "seconds_spread": {"epic": [0.951, 1.007]},
        "memory": dict.fromkeys(VARIANTS),
        "gflop_per_pair": dict.fromkeys(VARIANTS, 651.16),
        "gflop_per_pair_by_part": {name: {"tower": 326.586} for name in VARIANTS},
        "seconds_per_pair": dict.fromkeys(VARIANTS, 0.05),
        "peak_gib": dict.fromkeys(VARIANTS),
        "operations": dict.fromkeys(VARIANTS, 5423),
        "host_waits": dict.fromkeys(VARIANTS, 11),
        "not_measured": "",
        "settings": {
            "baseline": "meter",
            "size": "official",
            "counted_tokens": [10, 21],
            "timed_tokens": [12],
            "repetitions": 3,
        },
    }


def printed(result: dict[str, Any]) -> list[str]:
    """Lines, their cells one space apart."""
    out = io.StringIO()
    print_tables(result, Console(file=out, width=200))
    return [" ".join(line.replace("│", " ").replace("┃", " ").split()) for line in out.getvalue().splitlines()]


def test_what_was_measured_has_a_column_and_the_rest_none() -> None:
    lines = printed(result())
    assert "step FLOPs time" in lines and "step GFLOP s ops waits" in lines
    assert "epic 0.980 0.964 (0.951–1.007)" in lines and "epic_naive 1.000 –" in lines
    assert "vanilla 651.16 0.05 5,423 11" in lines
    assert " ".join(["tower", *["326.59"] * len(VARIANTS)]) in lines
    assert any(line.startswith("Measured with 1 pairs a step: time as the median of 3") for line in lines)
    assert "15.5 tokens a sentence; FLOPs counted over 2 pairs a step." in lines


def test_a_gpu_has_its_throughput() -> None:
    of_gpu = result() | {
        "tflop_per_second": dict.fromkeys(VARIANTS, 62.44),
        "share_of_peak": dict.fromkeys(VARIANTS, 0.4),
    }
    lines = printed(of_gpu)
    assert "step GFLOP s ops waits TFLOP/s of the peak" in lines
    assert "vanilla 651.16 0.05 5,423 11 62.4 40%" in lines
    assert "of the peak" not in " ".join(printed(of_gpu | {"share_of_peak": dict.fromkeys(VARIANTS)}))


def test_what_was_turned_off_and_not_measured_is_said() -> None:
    without = result() | {"not_measured": "--flops-only"}
    without["settings"]["without"] = ["pack_text", "reorder_attention"]
    lines = printed(without)
    assert lines[0] == "meter, official, without pack_text and reorder_attention: ratios to the official step"
    assert lines[-1] == "time, memory and operations not measured: --flops-only"
