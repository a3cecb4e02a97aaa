"""Drive a baseline's launcher as a user does, and read what a run leaves behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.launch.warm_launcher import WarmLauncher
from vlp.baseline import REGISTRY, get_baseline
from vlp.sacred_dialect.baseline import SacredBaseline, sacred_baselines

ROOT = Path(__file__).parents[2]
SMALL = {"meter": ("hidden_size=32", "num_heads=2"), "vilt": (), "fifth": ()}  # for small checkpoints
# What vanilla pre-training sums.
LOSSES = {
    "meter": ("mlm/train/loss", "itm/train/loss"),
    "vilt": ("mlm/train/loss", "itm/train/loss", "itm/train/wpa_loss"),
    "fifth": ("mlm/train/loss", "itm/train/loss"),
}
# For what tests code of vlp and epic_vlp that a second baseline could not run otherwise: METER's launcher alone.
SHARED_CODE = pytest.mark.parametrize("launcher", ["meter"], indirect=True)
# The same for what a second baseline could break after all: its test is slow.
OTHERS_SLOW = pytest.mark.parametrize(
    "launcher",
    [name if name == "meter" else pytest.param(name, marks=pytest.mark.slow) for name in sacred_baselines()],
    indirect=True,
)
VILT_ALONE = pytest.mark.parametrize("launcher", ["vilt"], indirect=True)
IMPORTED_LATER = ("vlp.sacred_dialect.run", "torch.utils.tensorboard")  # by every run
# One thread: such small models gain nothing from a second one, and the numbers are the same on every machine.
# Unbuffered: what is printed and what is an error stand in the log in their order.
ENVIRONMENT = {
    **os.environ,
    **{"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
}


@dataclass(frozen=True)
class Result:
    """How a run ended, what it printed, and the folder that it was told to log to."""

    status: int
    output: str
    log_dir: Path
    version: int = 0

    @property
    def directory(self) -> Path:
        """The newest run directory under ``log_dir``."""
        (directory,) = self.log_dir.glob(f"*/version_{self.version}")
        return directory

    @property
    def checkpoint(self) -> Path:
        return self.directory / "checkpoints" / "last.ckpt"

    @property
    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl, without what the clock says."""
        lines = (json.loads(line) for line in (self.directory / "metrics.jsonl").read_text().splitlines())
        return [{tag: value for tag, value in line.items() if tag != "data/wait_share"} for line in lines]

    def values(self, tag: str) -> list[float]:
        """Every logged value of ``tag``, in order."""
        return [line[tag] for line in self.metrics if tag in line]

    def config(self) -> dict[str, Any]:
        """The resolved config of config.json."""
        return json.loads((self.directory / "config.json").read_text())["config"]


class Launcher(WarmLauncher):
    """Runs command lines of ``run.py`` on one small data set; ``cold`` ones in a fresh Python."""

    def __init__(self, name: str, data: Path, logs: Path) -> None:
        self.name, self.data = name, data
        self.baseline: SacredBaseline = get_baseline(name)
        self.folder = Path(*REGISTRY[name].split(".")[:-1])  # of run.py, below the repository's root
        self.pretraining = (*self.baseline.pretraining, *self.baseline.small)
        self.retrieval = (*self.finetuning("irtr_coco"), "get_recall_metric=True")
        self.language_model = data / f"{self.baseline.text_family}-tiny"
        self.vocab_size = json.loads((self.language_model / "config.json").read_text())["vocab_size"]
        super().__init__((REGISTRY[name], *IMPORTED_LATER), ROOT / self.folder, ENVIRONMENT, logs)

    @cached_property
    def vanilla(self) -> Result:
        """Three steps of vanilla pre-training and one validation."""
        return self.pretrain("val_check_interval=3")

    @cached_property
    def epic(self) -> Result:
        """The same with EPIC, the vanilla run as its teacher."""
        return self.pretrain("val_check_interval=3", *self.teacher, "epic.mask_ratio=0.5")

    @property
    def teacher(self) -> tuple[str, str]:
        """What turns a run into one with EPIC, the vanilla run as its teacher."""
        return "epic", f"teacher_path={self.vanilla.checkpoint}"

    def finetuning(self, task: str) -> tuple[str, ...]:
        """The named configs of ``task``'s fine-tuning."""
        return self.baseline.finetuning.format(task), *self.baseline.small

    def items(self, *items: str) -> list[str]:
        """``items`` after those that every run of the small data set shares; a later item wins."""
        shared = [
            f"data_root={self.data / 'arrow'}",
            "datasets=['coco']",
            f"tokenizer={self.language_model}",
            f"vocab_size={self.vocab_size}",
            *SMALL[self.name],
            *("num_gpus=1", "num_workers=0", "per_gpu_batchsize=8", "batch_size=8"),
            *("max_steps=3", "warmup_steps=1", "learning_rate=1e-3", "drop_rate=0.1", "log_every_n_steps=1"),
        ]
        return [*shared, *items]

    def run(
        self,
        *items: str,
        script: str = "run.py",
        check: bool = True,
        log_dir: Path | None = None,
        during: Callable[[int, Path], None] | None = None,
    ) -> Result:
        """Run the command line of exactly ``items`` (and a ``log_dir``), from the warm process.

        ``during`` is called with the process id and the ``log_dir`` while the run is under way.
        """
        return self.together([{}], *items, script=script, check=check, log_dir=log_dir, during=during)[0]

    def together(
        self,
        environments: Sequence[dict[str, str]],
        *items: str,
        script: str = "run.py",
        check: bool = True,
        log_dir: Path | None = None,
        during: Callable[[int, Path], None] | None = None,
    ) -> list[Result]:
        """The same command line once for each of ``environments``, at the same time, with one ``log_dir``."""
        log_dir = log_dir or self.log_dir()
        version = len(list(log_dir.glob("*/version_*")))
        argv = [script, "with", *items, f"log_dir={log_dir}"]
        logs = [f"{log_dir}.{version}.{i}.txt" for i in range(len(environments))]
        statuses = self.ended(argv, environments, logs, during and (lambda process: during(process, log_dir)))
        results = [
            Result(status, Path(log).read_text(), log_dir, version) for status, log in zip(statuses, logs, strict=True)
        ]
        return [checked(result, check) for result in results]

    def on_two_nodes(self, *items: str, script: str = "run.py") -> list[Result]:
        """One process on each of two nodes; num_gpus=2 would do the same after importing everything a second time."""
        meet = address()
        nodes = [{**meet, "NODE_RANK": str(rank)} for rank in range(2)]
        return self.together(nodes, *items, "num_gpus=1", "num_nodes=2", script=script)

    def pretrain(self, *items: str, **options: Any) -> Result:
        return self.run(*self.pretraining, *self.items(*items), **options)

    def retrieve(self, checkpoint: Path, *items: str, check: bool = True) -> Result:
        last = ("test_only=True", f"load_path={checkpoint}", *items)
        return self.run(*self.retrieval, *self.items(*last), check=check)

    def cold(self, *items: str, root: Path = ROOT, check: bool = True) -> Result:
        """``python run.py with items`` in the repository under ``root``."""
        log_dir = self.log_dir()
        done = subprocess.run(
            [sys.executable, "run.py", "with", *items, f"log_dir={log_dir}"],
            cwd=root / self.folder,
            env={**ENVIRONMENT, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        return checked(Result(done.returncode, done.stdout, log_dir), check)


def address() -> dict[str, str]:
    """MASTER_ADDR and MASTER_PORT of this machine, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}


def checked(result: Result, check: bool) -> Result:
    assert not check or result.status == 0, result.output
    return result
