"""A run: pre-training by the official launcher, its scores along the way, and a fine-tuned task at the end."""

from __future__ import annotations

import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from demo.baselines import BASELINES as DEMOS
from demo.page import read_metrics
from demo.stages import run_command
from epic_common.config import EpicConfig
from reproduce.experiments import REPOSITORY
from reproduce.local import environment
from reproduce.miniature import commands
from reproduce.miniature.corruptions import Corrupted, corruptions
from reproduce.miniature.data import truth_file
from reproduce.miniature.false_negatives import false_negatives
from reproduce.miniature.fine_tuned import fine_tuned_score
from reproduce.miniature.flops import flops_per_step
from reproduce.miniature.places import Bench
from reproduce.miniature.points import KeptCheckpoints
from reproduce.miniature.results import Run, run_name
from reproduce.miniature.salient_mass import salient_mass
from reproduce.miniature.settings import TEACHER, VARIANTS, digest
from reproduce.miniature.wrong_words import judged_foils
from vlp.config.schema import ConfigError
from vlp.files import read_json

KEPT_CURVES = ("loss", "epic")  # tags that hold one of these


@dataclass(frozen=True)
class Planned:
    """A run that is to be made.

    Attributes:
        steps: of its pre-training.
        teacher: checkpoint of the teacher; None where the variant needs none.
    """

    bench: Bench
    variant: str
    seed: int
    steps: int
    teacher: Path | None = None

    @property
    def name(self) -> str:
        """Of its folder and its file."""
        return run_name(self.bench.name, self.variant, self.seed)

    @property
    def folder(self) -> Path:
        """Where it works."""
        return self.bench.work / "runs" / self.name

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides on its numbers."""
        own = self.bench.settings.model_dump(exclude={"tried"})
        return {**self.bench.miniature.shared, "baseline": own, "epic": VARIANTS.get(self.variant, {"enabled": False})}

    @property
    def config_hash(self) -> str:
        """Of the settings, the variant and the seed."""
        return digest([self.settings, self.bench.name, self.variant, self.seed])

    @property
    def needs_teacher(self) -> bool:
        """Whether its masking or its first replacements are a pre-trained model's."""
        return needs_teacher(self.variant)


def needs_teacher(variant: str) -> bool:
    """Whether a variant's masking or its first replacements are a pre-trained model's."""
    keys = VARIANTS[variant]
    return bool(keys["enabled"]) and EpicConfig.from_dict(keys).needs_teacher


@dataclass
class _Clock:
    """Processor seconds of what was run, by what it was for."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measures(self, what: str) -> Iterator[None]:
        before = _processor_seconds()
        yield
        self.seconds[what] = round(self.seconds.get(what, 0.0) + _processor_seconds() - before, 1)


def make_run(planned: Planned, only_last: bool = False) -> Run:
    """Make it from its beginning; what an interrupted one left is removed first.

    Args:
        only_last: score the last checkpoint alone and fine-tune nothing, as calibrate does.
    """
    bench, folder, clock = planned.bench, planned.folder, _Clock()
    clear(folder)
    variant = "vanilla" if planned.variant == TEACHER else planned.variant
    command = commands.pretraining(bench, variant, planned.seed, planned.steps, folder / "pretraining", planned.teacher)
    with clock.measures("pretraining"), KeptCheckpoints(folder / "pretraining", folder / "points") as kept:
        launch(planned, command, "pretraining")
    checkpoints = kept.by_step()
    steps = [planned.steps] if only_last else curve_steps(planned.steps, bench.miniature.points)
    if lacking := [step for step in steps if step not in checkpoints]:
        raise ConfigError(f"{folder}: no checkpoint was left at step {lacking[0]}: remove the folder and start again")
    for path in {*(folder / "points").iterdir()} - {checkpoints[step] for step in steps}:
        path.unlink()
    last = checkpoints[planned.steps]
    points, wrong, corrupted = [], [], list[Corrupted]()
    for step in steps:
        with clock.measures("evaluation"):
            points.append({"step": step, **_score(planned, checkpoints[step])})
            if replaces(variant) and not only_last:
                corrupted, decode = _corrupted(planned, checkpoints[step])
                wrong.append({"step": step, **false_negatives(corrupted, decode)})
        if step != planned.steps:
            checkpoints[step].unlink()
    fine_tuned = foils = None
    if corrupted:
        with clock.measures("evaluation"):
            foils = judged_foils(bench.name, last, truth_file(bench).parent)
    if not only_last:
        with clock.measures("fine_tuning"):
            launch(planned, commands.fine_tuning(bench, planned.seed, last, folder / "fine_tuning"), "fine_tuning")
        fine_tuned = fine_tuned_score(bench, folder / "fine_tuning")
    return Run(
        baseline=bench.name,
        variant=planned.variant,
        seed=planned.seed,
        steps=planned.steps,
        config_hash=planned.config_hash,
        **code(),
        command=commands.shown(bench.name, command, {bench.work: "WORK"}),
        settings=planned.settings,
        points=points,
        fine_tuned=fine_tuned,
        curves=_curves(folder / "pretraining"),
        false_negatives=wrong or None,
        salient_mass=salient_mass(corrupted) if corrupted else None,  # of the last checkpoint
        foils=foils,
        flops_per_step=flops_per_step(bench.name, last),
        seconds=clock.seconds,
        machine={"cpu": _cpu(), "torch": torch.__version__, "python": platform.python_version()},
    )


def curve_steps(steps: int, points: int) -> list[int]:
    """After how many steps the curve has its points: equally far apart, the last at the budget."""
    every = steps // points
    return [*(every * number for number in range(1, points)), steps]


def replaces(variant: str) -> bool:
    """Whether it replaces words."""
    return variant in VARIANTS and bool(VARIANTS[variant]["enabled"])


def clear(folder: Path) -> None:
    """Remove what a run left in its folder, but its lock."""
    for path in folder.glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".lock":
            path.unlink()


def launch(planned: Planned, command: Sequence[str], what: str) -> None:
    """Run an official command on the cores of a run.

    Raises:
        StageError: it fails; the end of its log is printed.
    """
    bench = planned.bench
    words = commands.shown(bench.name, command, {bench.work.resolve(): "WORK", REPOSITORY: "."})
    print(f"      $ cd {bench.name} && {shlex.join(words)}", flush=True)
    threads = str(bench.miniature.threads)
    env = {**environment(), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""}
    run_command([sys.executable, *command], REPOSITORY / bench.name, planned.folder / f"{what}.log", env)


def _score(planned: Planned, checkpoint: Path) -> dict[str, float]:
    """Zero-shot recalls in per cent."""
    output = planned.folder / "scored"
    shutil.rmtree(output, ignore_errors=True)
    launch(planned, commands.scoring(planned.bench, planned.seed, checkpoint, output), "scoring")
    (path,) = output.rglob("results.json")
    found = {"retrieval": read_json(path)["metrics"]}
    demo = DEMOS[planned.bench.name]
    return {f"{way}_r{k}": round(demo.recall(found, way, k), 4) for way in ("tr", "ir") for k in (1, 5, 10)}


def _corrupted(planned: Planned, checkpoint: Path) -> tuple[list[Corrupted], Callable[[list[int]], Any]]:
    """Captions of the held-out scenes as a checkpoint corrupts them, and what makes text of their tokens."""
    bench = planned.bench
    pairs = bench.miniature.scenes.tested
    reader, drawn = corruptions(bench.name, checkpoint, [], truth_file(bench), pairs, planned.seed)
    return [*drawn], reader.tokenizer.decode


def _curves(run: Path) -> dict[str, list[list[float]]]:
    """The losses and what EPIC logs, by tag without their first part: ``epic_replaced_share``, ``loss_mlm``."""
    (path,) = run.rglob("metrics.jsonl")
    curves: dict[str, list[list[float]]] = {}
    for line in read_metrics(path):
        for tag, value in line.items():
            if any(part in tag for part in KEPT_CURVES) and not tag.endswith("_epoch") and "/val/" not in tag:
                curves.setdefault(_short(tag), []).append([line["step"], round(value, 5)])
    return curves


def _short(tag: str) -> str:
    """``epic/train/epic_itc`` is ``epic_itc``, ``mlm/train/loss`` is ``mlm_loss``, ``train/loss_mlm`` ``loss_mlm``."""
    return "_".join(part for part in tag.split("/") if part not in ("train", "epic"))


def code() -> dict[str, Any]:
    """The commit, and whether files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout

    return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(git("status", "--porcelain", "-uno").strip())}


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if os.path.exists("/proc/cpuinfo") else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
