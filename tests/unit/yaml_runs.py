"""Small real runs of the baselines with YAML files, built as the launcher builds them, and what they log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlp.training.progress import PlainProgress
from vlp.training.run import train
from vlp.yaml_dialect.baseline import YamlBaseline
from vlp.yaml_dialect.run import Built, build


def built(baseline: YamlBaseline, script: str, config: dict[str, Any]) -> Built:
    """What the launcher builds."""
    made = build(baseline, script, config)
    for callback in made.run.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, PlainProgress):
            callback.every = 3600  # a line reads the loss, whenever the clock says so
    return made


def trained(baseline: YamlBaseline, script: str, config: dict[str, Any]) -> Built:
    """A run to its end, which nothing scores after it."""
    made = built(baseline, script, config)
    train(made.run, config, config["seed"])
    return made


def metrics_of(folder: Path) -> dict[tuple[int, str], float]:
    """Of every step, without times; what a run logs where it is broken is the mean of a part of an epoch."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        (line["step"], name): value
        for line in lines
        for name, value in line.items()
        if name.startswith(("train/", "epic/")) and not name.endswith("_epoch")
    }
