"""The scores of an evaluation on stdout, under the names that papers give them."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from vlp.console import stdout_console

# Official name -> the papers' name, and the factor to percent; official recalls are in percent.
NAMES = {
    **{f"txt_r{k}": (f"TR@{k}", 1.0) for k in (1, 5, 10)},
    **{f"img_r{k}": (f"IR@{k}", 1.0) for k in (1, 5, 10)},
    **{"txt_r_mean": ("TR mean", 1.0), "img_r_mean": ("IR mean", 1.0), "r_mean": ("mean", 1.0)},
    **{"acc": ("accuracy", 100.0), "score": ("score", 100.0)},
    **{f"{split}_d": (f"{split} accuracy", 100.0) for split in ("val", "testA", "testB")},
    **{f"Bleu_{n}": (f"BLEU@{n}", 100.0) for n in (1, 2, 3, 4)},
    **{
        "METEOR": ("METEOR", 100.0),
        "ROUGE_L": ("ROUGE-L", 100.0),
        "CIDEr": ("CIDEr", 100.0),
        "SPICE": ("SPICE", 100.0),
    },
}


def print_scores(results: Mapping[str, Mapping[str, float]]) -> None:
    """Print a row for each split, in percent.

    Args:
        results: split -> official name -> value; names that are not in :data:`NAMES` are printed as they are.
    """
    columns = dict.fromkeys(name for metrics in results.values() for name in metrics)
    if not columns:
        return
    table = Table("split", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(NAMES.get(name, (name, 1.0))[0], justify="right")
    for split, metrics in results.items():
        table.add_row(split, *(_cell(name, metrics.get(name)) for name in columns))
    stdout_console().print(table)


def _cell(name: str, value: float | None) -> str:
    return "–" if value is None else f"{value * NAMES.get(name, (name, 1.0))[1]:.2f}"
