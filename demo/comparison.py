"""The demo's numbers: one table, and results.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from demo.chance import recall_by_chance
from demo.report import Score
from demo.settings import RUNS, Settings
from demo.sizes import CAPTIONS_PER_IMAGE
from vlp.console import stdout_console
from vlp.files import read_json, write_json


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Rows of the table, and the sentence that says what they show."""

    scores: Sequence[Score]
    remark: str


def compare(settings: Settings) -> Comparison:
    """Read both runs' evaluations."""
    runs = {name: read_json(settings.path(name, "evaluated.json")) for name in RUNS}
    scores = [_recall(runs, settings, way, k) for way in ("tr", "ir") for k in (1, 5, 10)]
    accuracy = {name: settings.about.masked_token_accuracy(run) for name, run in runs.items()}
    scores.append(Score("masked-token accuracy", accuracy["vanilla"], accuracy["epic"]))
    scores.append(Score("ITC AUROC", None, settings.about.itc_auroc(runs["epic"]), chance=0.5, unit=""))
    return Comparison(scores, _remark(scores, settings))


def _recall(runs: dict[str, Any], settings: Settings, way: str, k: int) -> Score:
    images = settings.test_images
    # A random order finds one of an image's captions among k of all captions, or a caption's image among k images.
    relevant, candidates = (CAPTIONS_PER_IMAGE, images * CAPTIONS_PER_IMAGE) if way == "tr" else (1, images)
    chance = recall_by_chance(relevant, candidates, k)
    values = {name: settings.about.recall(run, way, k) for name, run in runs.items()}
    return Score(f"{way.upper()} R@{k}", values["vanilla"], values["epic"], chance=chance)


def _remark(scores: Sequence[Score], settings: Settings) -> str:
    better = [s.name for s in scores if s.difference is not None and s.difference > 0]
    worse = [s.name for s in scores if s.difference is not None and s.difference < 0]
    return (
        f"EPIC is above vanilla in {', '.join(better) or 'nothing'}; below in {', '.join(worse) or 'nothing'}. "
        f"One run each of {settings.steps} steps on {settings.train_images} drawn images: too small and too short to "
        "say anything about the paper's claims. It shows that every part runs."
    )


def print_table(comparison: Comparison, settings: Settings) -> None:
    """The table on the terminal."""
    table = Table(title=f"{settings.description.title}, zero-shot on scenes: vanilla | EPIC")
    for column in ("", "vanilla", "EPIC", "chance"):
        table.add_column(column, justify="left" if not column else "right")
    for s in comparison.scores:
        table.add_row(s.name, *(_cell(value, s.unit) for value in (s.vanilla, s.epic, s.chance)))
    console = stdout_console()
    console.print(table)
    console.print(comparison.remark)


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if unit else f"{value:.3f}"


def write_results(path: Path, comparison: Comparison, settings: Settings, commands: Sequence[str]) -> None:
    """``results.json``: the table, both runs' checkpoints, the settings and the commands."""
    write_json(
        path,
        {
            "scores": [dataclasses.asdict(score) for score in comparison.scores],
            "remark": comparison.remark,
            "checkpoints": {name: str(settings.checkpoint(name)) for name in RUNS},
            "settings": {**dataclasses.asdict(settings), "output": str(settings.output)},
            "commands": list(commands),
        },
    )
