"""``log.txt``, the official record of a run: one JSON object a line for each epoch.

Source: docs/official/albef.md §1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlp.files import atomic_open, regular

BEST = "best epoch: "


def epoch_line(
    train: Mapping[str, float], results: Mapping[str, Mapping[str, float]], epoch: int, digits: int, as_text: bool
) -> dict[str, Any]:
    """What log.txt says of an epoch: ``train_<meter>`` as text, ``<split>_<metric>``, ``epoch``.

    Args:
        train: means of the training meters; empty with ``--evaluate``.
        results: metrics of each split, under the names that :func:`tag` gives them.
        digits: of what is text.
        as_text: whether the metrics are text, too.
    """
    line: dict[str, Any] = {f"train_{name}": f"{value:.{digits}f}" for name, value in train.items()}
    for split, metrics in results.items():
        for name, value in metrics.items():
            line[tag(split, name)] = f"{value:.{digits}f}" if as_text else value
    return {**line, "epoch": epoch}


def tag(split: str, metric: str, between: str = "_") -> str:
    """``val`` and ``r_mean`` -> ``val_r_mean``.

    Grounding's ``val_d`` and ``testA_d`` name their splits themselves; VLUE, whose ``score`` it is, has one alone.
    """
    return metric if metric.endswith("_d") or metric == "score" else f"{split}{between}{metric}"


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add the line of an epoch, atomically.

    Lines of the same training epoch and of later ones go: a run that went on from an earlier point makes them again.
    """
    kept = _lines(path)
    if any(name.startswith("train_") for name in line):
        kept = [text for text in kept if not _made_again(text, line["epoch"])]
    _write(path, [*kept, json.dumps(line)], ending="\n")


def append_best(path: Path, epoch: int) -> None:
    """End the log with ``best epoch: <n>``, officially without a line's end."""
    _write(path, [*(text for text in _lines(path) if not text.startswith(BEST)), f"{BEST}{epoch}"], ending="")


def _lines(path: Path) -> list[str]:
    return regular(path).read_text(encoding="utf-8").splitlines() if path.exists() else []


def _write(path: Path, lines: list[str], ending: str) -> None:
    with atomic_open(path) as handle:
        handle.write(("\n".join(lines) + ending).encode())


def _made_again(text: str, epoch: int) -> bool:
    if text.startswith(BEST):
        return True
    try:
        line = json.loads(text)
        return line["epoch"] >= epoch and any(name.startswith("train_") for name in line)
    except (ValueError, TypeError, KeyError):
        return False
