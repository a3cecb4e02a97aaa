"""``python -m demo.tasks``: every downstream task of a baseline, trained and scored on scenes, beside chance.

A small model is pre-trained, and fine-tuned for each task, by the official command lines, which are echoed. Results:
runs/tasks_BASELINE/results.json, and each run's own folder. A second call goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from demo.sizes import REPOSITORY
from demo.stages import own_output, run_stages
from demo.task_recipes import TaskSettings
from demo.task_runs import BASELINES, stages
from demo.task_scores import Score
from vlp.arguments import whole
from vlp.console import stdout_console
from vlp.files import read_json, write_json


def main(argv: Sequence[str]) -> None:
    """Run all stages, print the table and write the results."""
    settings = parse(argv)
    own_output(settings.output)
    claim_output(settings)
    run_stages(stages(settings))
    about = BASELINES[settings.baseline]
    found = [score for task in settings.tasks for score in about.scores(settings, task)]
    runs = {name: read_json(settings.done(name)) for name in about.runs(settings)}
    path = settings.output / "results.json"
    write_json(
        path, {"baseline": settings.baseline, "scores": [dataclasses.asdict(score) for score in found], "runs": runs}
    )
    print_table(found)
    print(f"written: {path}")


def claim_output(settings: TaskSettings) -> None:
    """Refuse a folder that holds runs of other sizes; other tasks may join.

    Raises:
        SystemExit: saying what to do.
    """
    path = settings.output / "settings.json"
    wanted = {**dataclasses.asdict(settings), "output": str(settings.output)}
    del wanted["tasks"]
    if path.exists() and read_json(path) != wanted:
        raise SystemExit(f"{settings.output} holds tasks of other settings: remove it, or give another --output")
    settings.output.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)


def print_table(found: Sequence[Score]) -> None:
    """The scores on the terminal, in percent."""
    table = Table(title="scenes, in percent")
    for column in ("task", "metric", "score", "chance", "without the image", "items"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for each in found:
        blind = "–" if each.blind is None else f"{each.blind:.1f}"
        table.add_row(each.task, each.metric, f"{each.value:.1f}", f"{each.chance:.1f}", blind, str(each.items))
    stdout_console().print(table)


def parse(argv: Sequence[str]) -> TaskSettings:
    """Settings from flags."""
    parser = argparse.ArgumentParser("python -m demo.tasks", description="Train and score every downstream task.")
    parser.add_argument("--baseline", choices=[*BASELINES], default="albef", help="default albef")
    parser.add_argument("--output", type=Path, help="default runs/tasks_BASELINE")
    every = dict.fromkeys(task for about in BASELINES.values() for task in about.tasks)
    parser.add_argument("--tasks", nargs="+", choices=[*every], help="default: all of the baseline")
    for field in dataclasses.fields(TaskSettings)[3:]:
        least, default = 0 if field.name == "seed" else 1, field.default
        shown = f"default {default}"
        if field.name == "pretrain_epochs":
            default, shown = None, f"default {', '.join(f'{b} {a.pretrain_epochs}' for b, a in BASELINES.items())}"
        parser.add_argument("--" + field.name.replace("_", "-"), type=whole(least), default=default, help=shown)
    chosen = vars(parser.parse_args(argv))
    output = chosen["output"] or REPOSITORY / "runs" / f"tasks_{chosen['baseline']}"
    about = BASELINES[chosen["baseline"]]
    known, epochs = about.tasks, chosen["pretrain_epochs"] or about.pretrain_epochs
    tasks = tuple(chosen["tasks"] or known)
    if others := [task for task in tasks if task not in known]:
        parser.error(f"--tasks {' '.join(others)}: no task of {chosen['baseline']}, which has {', '.join(known)}")
    return TaskSettings(**{**chosen, "output": output.resolve(), "tasks": tasks, "pretrain_epochs": epochs})
