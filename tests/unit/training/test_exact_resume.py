"""A small run, broken at any hook of any epoch and gone on with, against the run that nothing has broken."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric

from tests.unit.training.test_trainer import CONFIG
from vlp.data.datamodule import RunDataModule
from vlp.data.samplers import ResumableDistributedSampler
from vlp.sacred_dialect.resume import resolve_resume
from vlp.sacred_dialect.trainer import build_trainer
from vlp.training.run_log import JsonLinesLogger


class Numbers(RunDataModule):
    """Batches of 2, or ``size``, out of 0 … n-1."""

    def __init__(self, n: int, validate: bool, workers: int, size: int = 2) -> None:
        super().__init__()
        self.has_validation, self.workers, self.size = validate, workers, size
        self.data: Any = list(range(n))

    def new_train_sampler(self, processes: int, rank: int) -> ResumableDistributedSampler:
        return ResumableDistributedSampler(self.data, num_replicas=processes, rank=rank, seed=3)

    def samples_in(self, batch: dict[str, Any]) -> int:
        return len(batch["x"])

    def train_dataloader(self) -> DataLoader[Any]:
        options: dict[str, Any] = {"num_workers": self.workers, "generator": torch.Generator()}
        return DataLoader(self.data, self.size, sampler=self.resumed_train_sampler(1, 0), collate_fn=collate, **options)

    def val_dataloader(self) -> Any:
        if not self.has_validation:
            return []
        return DataLoader(self.data[:3], 2, collate_fn=collate, generator=torch.Generator())


def collate(samples: list[int]) -> dict[str, Any]:
    return {"text": [str(i) for i in samples], "x": torch.tensor(samples).float()[:, None]}


class Noisy(L.LightningModule):
    """Every training and validation step draws from the global random stream."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.train_task_loss = MeanMetric()
        self.step_losses: dict[str, Tensor] = {}

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = ((self.layer(batch["x"] / 10) - torch.rand(1)) ** 2).mean()
        self.train_task_loss.update(loss.detach())
        self.log("loss", loss)
        self.log("first", batch["x"][0, 0])
        self.step_losses = {"task_loss": loss.detach()}
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("loss_epoch", self.train_task_loss.compute())
        self.train_task_loss.reset()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.log("val/the_metric", self.layer(batch["x"]).mean() + torch.rand(()))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        return [optimizer], [
            {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + t)), "interval": "step"}
        ]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run's code reacts to it."""


class Breaker(Callback):
    """Does something at the n-th hook that it sees; before a line is logged and after a checkpoint is saved, too."""

    def __init__(self, n: int, deed: Callable[[], None]) -> None:
        self.left, self.deed = n, deed

    def _hook(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        if trainer.sanity_checking:
            return
        self.left -= 1
        if self.left == 0:
            self.deed()

    def watch(self, trainer: L.Trainer) -> None:
        disk: Any = trainer.strategy.checkpoint_io
        log: Any = next(logger for logger in trainer.loggers if isinstance(logger, JsonLinesLogger))
        save, write = disk.save_checkpoint, log.log_metrics

        def saved(*arguments: Any, **options: Any) -> None:
            save(*arguments, **options)
            self._hook(trainer)

        def logged(*arguments: Any, **options: Any) -> None:
            self._hook(trainer)
            write(*arguments, **options)

        disk.save_checkpoint, log.log_metrics = saved, logged

    on_train_start = on_train_epoch_start = on_train_epoch_end = on_train_end = _hook
    on_train_batch_start = on_train_batch_end = on_before_zero_grad = on_before_optimizer_step = _hook
    on_validation_start = on_validation_end = on_validation_batch_start = on_validation_batch_end = _hook


def kill() -> None:
    raise Killed


def ask() -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def fit(config: dict[str, Any], n: int, *added: Callback, first: bool = False) -> list[str]:
    """One run of the launcher's Trainer, callbacks ``added`` to its own; the lines of its metrics.jsonl."""
    torch.manual_seed(config["seed"])
    path = resolve_resume({**config, "resume_from": "auto"})
    trainer = build_trainer(config, has_validation=config["validate"])
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [*added, *callbacks] if first else [*callbacks, *added]
    for breaker in added:
        if isinstance(breaker, Breaker):
            breaker.watch(trainer)
    data = Numbers(n, config["validate"], config["num_workers"], config["per_gpu_batchsize"])
    assert trainer.log_dir is not None
    log = Path(trainer.log_dir) / "metrics.jsonl"
    try:
        trainer.fit(Noisy(), datamodule=data, ckpt_path=path, weights_only=True)
    except Killed:
        pass
    except SystemExit as end:
        assert end.code == 75
    return timeless(log.read_text()) if log.exists() else []


def timeless(log: str) -> list[str]:
    """The lines of a metrics.jsonl without the one value that is measured in seconds."""
    return re.sub(r', "data/wait_share": [^,}]*', "", log).splitlines()


def end(config: dict[str, Any]) -> dict[str, Any]:
    """The newest last.ckpt, less what names the folder and the moment at which it was saved."""
    path = resolve_resume({**config, "resume_from": "auto"})
    assert path is not None
    state = torch.load(path, weights_only=True)
    (best,) = (value for key, value in state["callbacks"].items() if "BestCheckpoint" in key)
    # Lightning counts a validation that it passes over twice; it reads of these counters only whether they are equal.
    validation = state["loops"]["fit_loop"].pop("epoch_loop.val_loop.batch_progress")
    assert len(set(validation["total"].values())) == 1
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "ranks", "Numbers", "loops", "global_step", "epoch")
    return {**{key: state[key] for key in kept}, "best": best["best_model_score"]}


RUNS = st.fixed_dictionaries(
    {
        "batches": st.integers(2, 5),
        "accumulate": st.integers(1, 3),
        "max_steps": st.integers(2, 7),
        "interval": st.integers(1, 3),
        "validate": st.booleans(),
        "save_every_n_steps": st.integers(0, 2),
    }
)

SMALL = {"batches": 4, "accumulate": 1, "max_steps": 6, "interval": 2, "validate": True, "save_every_n_steps": 1}


def configured(run: dict[str, Any], folder: Path) -> tuple[dict[str, Any], int]:
    n = 2 * run["batches"] - 1  # the last batch is a single sample
    config = {
        **CONFIG,
        "log_dir": str(folder),
        "per_gpu_batchsize": 2,
        "batch_size": 2 * run["accumulate"],
        "max_steps": run["max_steps"],
        "val_check_interval": min(run["interval"], run["batches"]),
        "validate": run["validate"],
        "save_every_n_steps": run["save_every_n_steps"],
        "log_every_n_steps": 1,
        "num_workers": 0,
    }
    return config, n


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def compare(run: dict[str, Any], breaks: list[tuple[int, bool, Callable[[], None]]], cut: int | None = None) -> None:
    """The run ``run``, and the same broken ``breaks`` times and first ended after ``cut`` steps."""
    with tempfile.TemporaryDirectory() as folder:
        config, n = configured(run, Path(folder) / "whole")
        expected = fit(config, n)
        broken = {**config, "log_dir": f"{folder}/broken"}
        parts = [fit(broken, n, Breaker(hook, deed), first=first) for hook, first, deed in breaks]
        if cut is not None:
            part = fit({**broken, "max_steps": cut}, n)
            # Where an epoch was cut its mean is that of the batches so far.
            parts.append(part[:-1] if part and part[-1] not in expected else part)
        parts.append(fit(broken, n))
        covered = 0
        for part in parts:
            start = expected.index(part[0]) if part else covered
            assert start <= covered and expected[start : start + len(part)] == part
            covered = max(covered, start + len(part))
        assert covered == len(expected)
        assert str(end(broken)) == str(end(config))


ENDS = {**SMALL, "batches": 3, "max_steps": 4}


# Around the save at an epoch's end and at the run's, before and after the epoch's means are logged.
@example(run=ENDS, breaks=[(32, False, kill), (6, False, kill)])
@example(run=ENDS, breaks=[(33, False, kill)])
@example(run=ENDS, breaks=[(42, False, kill)])
@example(run=ENDS, breaks=[(43, False, kill)])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    run=RUNS,
    breaks=st.lists(
        # Before our callbacks' first hook, a signal still has its default action.
        st.tuples(st.integers(1, 90), st.booleans(), st.sampled_from([kill, ask])).filter(
            lambda broken: broken != (1, True, ask)
        ),
        min_size=1,
        max_size=2,
    ),
)
def test_broken_anywhere(run: dict[str, Any], breaks: list[tuple[int, bool, Callable[[], None]]]) -> None:
    compare(run, breaks)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=RUNS, cut=st.integers(1, 7), hook=st.none() | st.integers(1, 40))
def test_a_run_that_max_steps_ended_goes_on_with_more(run: dict[str, Any], cut: int, hook: int | None) -> None:
    """In the middle of an epoch and at its end, whether it had been killed before or not."""
    compare(run, [(hook, False, kill)] if hook else [], min(cut, run["max_steps"]))


def test_a_run_cut_at_an_epochs_end_goes_on_with_the_next_epoch(tmp_path: Path) -> None:
    """Loader workers ask the sampler for the epoch's batches before Lightning names the epoch."""
    config, n = configured({**SMALL, "max_steps": 2 * SMALL["batches"]}, tmp_path / "whole")
    expected = fit(config, n)
    cut = {**config, "log_dir": str(tmp_path / "cut"), "max_steps": SMALL["batches"], "num_workers": 1}
    first = fit(cut, n)
    assert (end(cut)["Numbers"]["epoch"], end(cut)["Numbers"]["position"]) == (1, 0)
    assert first + fit({**cut, "max_steps": config["max_steps"]}, n) == expected


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    """The first one finds it in a step that takes long; the same signal on two ways counts once."""

    def insist() -> None:
        for pause in (0, 1.1, 0):
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGTERM)

    config, n = configured(SMALL, tmp_path)
    child = os.fork()
    if child == 0:
        try:
            fit(config, n, Breaker(20, insist))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM


def test_the_handlers_go_with_the_run(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    config, n = configured(SMALL, tmp_path)
    fit(config, n, Breaker(5, ask))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
