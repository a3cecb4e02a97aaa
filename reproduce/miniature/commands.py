"""The official command lines of a run: those of ``demo.tasks`` with the miniature's keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from demo.task_recipes import Recipe, TaskSettings
from demo.xvlm_demo import REGION_SHARE
from reproduce.miniature.data import fitted_folder, recipes_of
from reproduce.miniature.places import Bench
from reproduce.miniature.settings import VARIANTS

LOGGED = 50  # points of a training curve
RUNS_OF_TASKS = {"nlvr2": "NLVR", "vqa": "VQA"}  # in demo.tasks


def pretraining(bench: Bench, variant: str, seed: int, steps: int, output: Path, teacher: Path | None) -> list[str]:
    """Pre-training in ``output``, with a ``last.ckpt`` at every point of the learning curve."""
    tasks = bench.tasks(seed)
    recipe = recipes_of(bench).recipes(tasks)["Pretrain"]._replace(rate=bench.settings.rate)
    every, logged = steps // bench.miniature.points, max(1, steps // LOGGED)
    own = [f"save_every_n_steps={every}", f"log_every_n_steps={logged}", "resume_from=None"]
    items = [*own, *_length(bench, steps), *bench.settings.pretraining, *epic_items(bench, variant, teacher)]
    return _command(bench, tasks, recipe, items, output)


def epic_items(bench: Bench, variant: str, teacher: Path | None) -> list[str]:
    """What makes a variant of the vanilla run."""
    keys = dict(VARIANTS[variant])
    if not keys["enabled"]:
        return []
    if keys.get("generator_training") == "trained":
        keys["generator"] = str(fitted_folder(bench))
    items = [f"epic.{key}={value}" for key, value in keys.items()]
    return [*items, f"teacher_path={teacher}"] if teacher is not None else items


def scoring(bench: Bench, seed: int, checkpoint: Path, output: Path) -> list[str]:
    """Zero-shot retrieval among the pictures of the test split."""
    tasks = bench.tasks(seed)
    recipe = recipes_of(bench).recipes(tasks)["zero_shot"]._replace(checkpoint=checkpoint)
    return _command(bench, tasks, recipe, bench.settings.scoring, output)


def fine_tuning(bench: Bench, seed: int, checkpoint: Path, output: Path) -> list[str]:
    """The task of the settings."""
    tasks, chosen = bench.tasks(seed), bench.settings.fine_tuning
    recipe = recipes_of(bench).recipes(tasks)[RUNS_OF_TASKS[bench.task]]
    recipe = recipe._replace(checkpoint=checkpoint, epochs=chosen.epochs, rate=chosen.rate)
    return _command(bench, tasks, recipe, ["resume_from=None", *chosen.items], output)


def _command(bench: Bench, tasks: TaskSettings, recipe: Recipe, items: Sequence[str], output: Path) -> list[str]:
    about = recipes_of(bench)
    small = [*about.overrides(tasks, recipe), *_sizes(bench), *bench.settings.small]
    return about.command(recipe, each_once([*small, *items]), output)


def _sizes(bench: Bench) -> list[str]:
    own = bench.settings
    if bench.is_sacred:
        return [f"image_size={own.image_size}", f"per_gpu_batchsize={own.batch}", f"batch_size={own.batch}"]
    return [f"image_res={own.image_size}"]


def _length(bench: Bench, steps: int) -> list[str]:
    if bench.is_sacred:
        return [f"max_steps={steps}", "eval_split=val"]
    own, streams = bench.settings, ("images.", "regions.") if bench.name == "xvlm" else ("",)
    batches = math.ceil(bench.miniature.scenes.images / own.batch)
    if bench.name == "xvlm":
        batches += round(REGION_SHARE * batches)
    sizes = [f"{stream}batch_size={own.batch}" for stream in streams]
    return [*sizes, f"max_steps={steps}", f"schedular.epochs={math.ceil(steps / batches)}"]


def each_once(items: Sequence[str]) -> list[str]:
    """Of a key that is there twice the last value, in its first place."""
    found: dict[str, str] = {}
    for number, item in enumerate(items):
        key, has_value, _ = item.partition("=")
        found[key if has_value and not item.startswith("--") else f"{number} {item}"] = item
    return list(found.values())


def shown(baseline: str, command: Sequence[str], places: Mapping[Any, str]) -> list[str]:
    """A command as it stands in a results file: without this machine's folders."""
    words = ["python", *command]
    for folder, name in places.items():
        words = [word.replace(str(folder), name) for word in words]
    return words
