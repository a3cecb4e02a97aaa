"""A run from what is built to its end: checked, logged, trained or evaluated, with one line for what went wrong."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import lightning as L

from vlp.checkpoint.atomic_io import last_save_failure
from vlp.checkpoint.weights import WeightsError
from vlp.data.datamodule import RunDataModule
from vlp.data.errors import DataError
from vlp.training.failures import plain_failures
from vlp.training.rank_seed import RankSeed
from vlp.training.resume import GoingOn, check_resume
from vlp.training.run_log import HEADER, run_directory, write_run_header
from vlp.training.wandb_log import open_wandb

log = logging.getLogger(__name__)

T = TypeVar("T")


class Run(NamedTuple):
    """Everything that a run needs, checked and loaded, equal on every rank; and what it goes on from."""

    trainer: L.Trainer
    model: L.LightningModule
    datamodule: RunDataModule
    going_on: GoingOn | None = None


def or_exit(build: Callable[[], T]) -> T:
    """``build()``; what is wrong with the config, the data or a weights file ends in one line and status 1."""
    try:
        return build()
    except (DataError, WeightsError, ValueError, OSError) as error:
        log.debug("while building the run", exc_info=True)
        sys.exit(f"error: {error}")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # torch's words for the CPU
            raise
        log.debug("while building the run", exc_info=True)
        sys.exit("error: the model does not fit into memory: smaller sizes, or a larger machine")


def train(run: Run, config: Mapping[str, Any], seed: int) -> None:
    """Train to the end of the run, from a checkpoint's position if it goes on from one; one process of the run.

    ``config`` is written beside the results. Ends the process with status 1 and one line where data, weights or the
    last save fail, and with status 75 after a signal.
    """
    or_exit(run.datamodule.check_texts)
    going_on, noted, path = run.going_on, None, None
    if going_on is not None:
        path = going_on.checkpoint
        processes, device = run.trainer.world_size, run.trainer.strategy.root_device
        noted = or_exit(lambda: check_resume(going_on, run.model, run.datamodule, processes, device))
    if run.trainer.is_global_zero:
        or_exit(lambda: run.datamodule.fed)  # before files can change
    start(run, config, seed, noted)
    with plain_failures(run.trainer.global_rank):
        run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=path, weights_only=True)
        if failure := last_save_failure(run.trainer):
            sys.exit(f"error: {failure}")
    say_where(run)


def evaluate(
    run: Run, config: Mapping[str, Any], seed: int, write_results: Callable[[Path], None], header: str = HEADER
) -> None:
    """Evaluate on the test loader; ``write_results`` gets the run's folder, on rank 0, if there is one.

    ``header`` is the file for ``config``: another one where the folder is that of a training run.
    """
    start(run, config, seed, header=header)
    with plain_failures(run.trainer.global_rank):
        run.trainer.test(run.model, datamodule=run.datamodule, verbose=False)
        directory = run_directory(run.trainer)
        if run.trainer.is_global_zero and directory is not None:
            write_results(directory)
    say_where(run)


def start(
    run: Run,
    config: Mapping[str, Any],
    seed: int,
    resumed_from: Mapping[str, Any] | None = None,
    header: str = HEADER,
) -> None:
    """Write the run's header and what data it reads.

    From here on ranks differ in their dropout and their matching labels.
    """
    directory = run_directory(run.trainer)
    if directory is not None:
        folder = directory
        or_exit(lambda: write_run_header(folder, config, resumed_from, header))
        or_exit(lambda: run.datamodule.write_report(folder))
    or_exit(lambda: open_wandb(run.trainer))
    callbacks: list[L.Callback] = run.trainer.callbacks  # type: ignore[attr-defined]
    callbacks.insert(0, RankSeed(seed))


def say_where(run: Run) -> None:
    """Print the run's folder."""
    directory = run_directory(run.trainer)
    if directory is not None and run.trainer.is_global_zero:  # another process may have counted one version more
        log.info("run directory: %s", directory)
