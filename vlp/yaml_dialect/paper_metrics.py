"""A run's metrics under the names that the columns of the paper's tables have, in percent.

``f30k_zs_tr_r1``: data set, fine-tuned on it (ft) or zero-shot (zs), captions found by images (tr) or images found by
captions (ir). What no table has a column for is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The task of a script -> split -> the column of its accuracy, a share.
ACCURACIES = {
    "nlvr": {"val": "nlvr2_dev", "test": "nlvr2_test"},
    "ve": {"val": "snli_ve_dev", "test": "snli_ve_test"},
}
# How the names of list files begin -> the data set.
DATA_SETS = {"coco": "coco", "flickr30k": "f30k", "f30k": "f30k"}
WAYS = {"txt": "tr", "img": "ir"}


def paper_metrics(
    task: str, config: Mapping[str, Any], results: Mapping[str, Mapping[str, float]], trained_on: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """The columns of each split.

    Args:
        config: of the run that scored.
        results: split -> metric -> value, under the official names.
        trained_on: the config of the run that left the scored weights; empty where it is not known.
    """
    if task == "retrieval":
        return {split: _recalls(config, split, metrics, trained_on) for split, metrics in results.items()}
    columns = ACCURACIES.get(task, {})
    return {split: {columns[split]: 100 * each["acc"]} for split, each in results.items() if split in columns}


def _recalls(
    config: Mapping[str, Any], split: str, metrics: Mapping[str, float], trained_on: Mapping[str, Any]
) -> dict[str, float]:
    scored = data_set(config[f"{split}_file"])
    if scored is None:
        return {}
    # The lists of pre-training hold COCO's pairs, too: k_test is a key of retrieval alone.
    tuned = "k_test" in trained_on and data_set(trained_on.get("train_file", ())) == scored
    prefix = f"{scored}_{'ft' if tuned else 'zs'}"
    found = (name.split("_", 1) for name in metrics)
    return {
        f"{prefix}_{WAYS[way]}_{rank}": metrics[f"{way}_{rank}"]
        for way, rank in (parts for parts in found if len(parts) == 2)
        if way in WAYS and rank.startswith("r") and rank[1:].isdecimal()
    }


def data_set(lists: str | Sequence[str]) -> str | None:
    """The data set that the first list file belongs to, by its name."""
    names = [lists] if isinstance(lists, str) else list(lists)
    stem = Path(names[0]).name if names else ""
    return next((name for begin, name in DATA_SETS.items() if stem.startswith(begin)), None)
