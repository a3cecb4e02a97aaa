"""An evaluation's metrics under the names that the columns of the paper's tables have, in percent.

As ``vlp.yaml_dialect.paper_metrics``: ``f30k_zs_tr_r1``, ``nlvr2_dev``. What no table has a column for is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ACCURACIES = {"nlvr2": "nlvr2", "snli": "snli_ve"}  # task -> how its columns begin
SPLITS = {"dev": "val", "test": "test"}  # in the tags of these tasks -> in results.json
RECALLS = "recalls/"
WAYS = {"ir": "img", "tr": "txt"}


def paper_metrics(
    config: Mapping[str, Any], metrics: Mapping[str, float], trained_on: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """The columns of each split.

    Args:
        config: of the run that scored.
        metrics: by tag, shares from 0 to 1.
        trained_on: the config of the run that left the scored weights; empty where it is not known.
    """
    columns: dict[str, dict[str, float]] = {}
    for task, name in ACCURACIES.items():
        for part, split in SPLITS.items():
            if (tag := f"{task}/{part}/accuracy_epoch") in metrics:
                columns.setdefault(split, {})[f"{name}_{part}"] = 100 * metrics[tag]
    if recalls := {tag.removeprefix(RECALLS): value for tag, value in metrics.items() if tag.startswith(RECALLS)}:
        scored = config["datasets"]
        tuned = trained_on.get("loss_names", {}).get("irtr", 0) > 0 and trained_on.get("datasets") == scored
        prefix = f"{scored[0]}_{'ft' if tuned else 'zs'}"
        columns[config["eval_split"]] = {f"{prefix}_{name}": 100 * value for name, value in recalls.items()}
    return columns


def named_scores(eval_split: str, metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The scores of each split under the names of ``vlp.evaluation.score_table``."""
    scores: dict[str, dict[str, float]] = {}
    for tag, value in metrics.items():
        if tag.startswith(RECALLS):
            way, rank = tag.removeprefix(RECALLS).split("_")
            scores.setdefault(eval_split, {})[f"{WAYS[way]}_{rank}"] = 100 * value
        elif tag.endswith(("/accuracy_epoch", "/score_epoch")) and "/train/" not in tag:
            task, part, quantity = tag.split("/")
            split = eval_split if part == "val" else SPLITS[part]
            if task in ACCURACIES:
                scores.setdefault(split, {})["acc"] = value
            else:
                scores.setdefault(split, {})[f"{task} {quantity.removesuffix('_epoch')}"] = 100 * value
    return scores
