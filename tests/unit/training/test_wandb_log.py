"""``logger=wandb`` before anything of wandb's runs; tests/launch/test_wandb.py has its runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from tests.unit.training.small_runs import config_of, write_data
from vlp.baseline import get_baseline
from vlp.training import wandb_log
from vlp.training.event_log import EventLog
from vlp.training.wandb_log import KEY, KeepsRunId, WandbLog, add_wandb, check_logger

pytest.importorskip("wandb", reason="the extra [wandb] is not installed")


def trainer_in(folder: Path, **options: Any) -> L.Trainer:
    return L.Trainer(accelerator="cpu", logger=EventLog(folder, "named", "version_3"), **options)


def test_without_the_package_the_key_is_refused_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(wandb_log, "version", lacking)
    (tmp_path / "wandb").mkdir()  # as its runs leave it; Python would import the folder
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path, images=2)
    with pytest.raises(ValueError, match=r"logger=wandb: the package wandb is not installed: pip install .wandb"):
        get_baseline("meter").check(config_of("meter", tmp_path, logger="wandb"))
    check_logger(None)


def test_it_stands_beside_the_other_loggers_in_the_folder_of_the_run(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    add_wandb(trainer, None, None)
    assert len(trainer.loggers) == 1
    add_wandb(trainer, "wandb", None)
    first, second = trainer.loggers
    assert isinstance(first, EventLog) and isinstance(second, WandbLog)
    assert trainer.log_dir == second.save_dir == str(tmp_path / "named" / "version_3")
    assert (second._wandb_init["name"], second._wandb_init["project"]) == ("named/version_3", "epic-vlp")


def test_the_id_is_new_by_run_and_goes_with_its_checkpoints(tmp_path: Path) -> None:
    ids = []
    for _ in range(2):
        L.seed_everything(0, verbose=False)
        trainer, checkpoint = trainer_in(tmp_path), dict[str, Any]()
        add_wandb(trainer, "wandb", None)
        (keeper,) = [each for each in trainer.callbacks if isinstance(each, KeepsRunId)]  # type: ignore[attr-defined]
        keeper.on_save_checkpoint(trainer, L.LightningModule(), checkpoint)
        ids.append(checkpoint[KEY])
    assert ids[0] != ids[1]
    for state, expected in (({KEY: ids[0]}, True), ({}, False)):
        torch.save({"state_dict": {"a": torch.ones(1)}, **state}, tmp_path / "last.ckpt")
        trainer = trainer_in(tmp_path)
        add_wandb(trainer, "wandb", str(tmp_path / "last.ckpt"))
        logger = trainer.loggers[1]
        assert isinstance(logger, WandbLog) and (logger._wandb_init["id"] == ids[0]) is expected


def test_a_run_that_leaves_nothing_behind_logs_nowhere(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, fast_dev_run=True)
    add_wandb(trainer, "wandb", None)
    assert not any(isinstance(each, WandbLog) for each in trainer.loggers)


def test_trouble_is_said_once_and_the_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        calls = 0

        def log(self, metrics: Any) -> None:
            self.calls += 1
            raise OSError("disk full")

    full: Any = Full()
    logger = WandbLog(experiment=full, save_dir=tmp_path)
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
    assert full.calls == 1 and caplog.text.count("disk full. The run goes on") == 1
