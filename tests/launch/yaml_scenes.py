"""Scenes as the baselines with YAML files read them, and a small language model for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from epic_common.language_models.fit import FitSettings, fit_language_model
from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import write_tasks
from vlp.data.json.convert import convert


def write_scenes(data: Path, vocab_size: int, lists: Sequence[str], layouts: Sequence[str] = ()) -> None:
    """Write ``raw`` (COCO's layout), ``tasks`` (those of the others), ``lists`` and ``bert-tiny`` into ``data``.

    Args:
        lists: data sets that are converted to JSON lists.
        layouts: further raw layouts.
    """
    write_coco(data / "raw", Request(train=32, val=8, test=8, captions=2, image_size=80, seed=0))
    tasks = [name for name in lists if not name.startswith("coco")]
    write_tasks(data / "raw", data / "tasks", (*tasks, *layouts))
    for name in lists:
        convert(name, data / "tasks" / name if name in tasks else data / "raw", data / "lists", quiet=True)
    captions = [row["caption"] for row in json.loads((data / "lists" / "coco.json").read_text())]
    (data / "captions.txt").write_text("\n".join(captions))
    sizes = FitSettings(family="bert", steps=3, batch_size=8, layers=1, width=64, vocab_size=vocab_size)
    fit_language_model(data / "captions.txt", data / "bert-tiny", sizes)
