"""What the scripts of ALBEF and X-VLM do with a resolved config that their schema allows.

Source: docs/official/albef.md §1, §8.
"""

from __future__ import annotations

import copy
import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L

from vlp.files import regular_if_there
from vlp.progress import waiting
from vlp.training.processes import leave_processes
from vlp.training.run import Run, evaluate, or_exit, train
from vlp.training.run_log import check_log_dir
from vlp.training.trainer import build_trainer, prepare_process
from vlp.training.wandb_log import add_wandb
from vlp.yaml_dialect.baseline import Script, YamlBaseline
from vlp.yaml_dialect.epoch_log import append, epoch_line
from vlp.yaml_dialect.epoch_module import EpochModule
from vlp.yaml_dialect.launch import find_processes, set_meeting_place
from vlp.yaml_dialect.official_checkpoint import AfterEpoch, read_official
from vlp.yaml_dialect.official_files import OfficialFiles
from vlp.yaml_dialect.results import write_results
from vlp.yaml_dialect.resume import going_on, resolve_resume
from vlp.yaml_dialect.settings import environment, event_log

log = logging.getLogger(__name__)


class Built(NamedTuple):
    """A run of a script, and what writes its official files."""

    run: Run
    script: Script
    files: OfficialFiles

    @property
    def model(self) -> EpochModule:
        assert isinstance(self.run.model, EpochModule)
        return self.run.model


def run(baseline: YamlBaseline, name: str, config: dict[str, Any]) -> None:
    """Train, or with ``evaluate`` score ``checkpoint``; one process of the run of the script ``name``.

    What is wrong with the config, the data or a weights file ends in one line and status 1, before anything runs.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    config = copy.deepcopy(config)
    with waiting("building the run: its data, model and weights"):
        built = or_exit(lambda: build(baseline, name, config))
    if config.get("evaluate"):
        evaluate(built.run, config, config["seed"], lambda _: scored(baseline, built, config), "config_evaluate.json")
    else:
        train(built.run, config, config["seed"])
        finish(baseline, built, config)
    leave_processes()


def build(baseline: YamlBaseline, name: str, config: dict[str, Any]) -> Built:
    """Everything that a run needs; ``resume_from=auto`` is resolved in ``config``.

    Raises:
        ValueError, DataError, WeightsError, OSError: config, data or a weights file do not serve.
        SystemExit: a run that is resumed is complete.
    """
    script = baseline.scripts[name]
    baseline.check(script, config)
    if baseline.extension is not None:
        baseline.extension.settle(baseline, config)
    check_log_dir(config["output_dir"], "checkpoints", key="output_dir")
    for log_file in ("log.txt", "metrics.jsonl"):  # before an epoch is trained
        regular_if_there(Path(config["output_dir"], log_file))
    config["resume_from"] = resolve_resume(config)
    resumed = going_on(config, script, baseline.extension.may_change if baseline.extension else ())
    after = None
    if config.get("resume"):
        after = AfterEpoch(config["checkpoint"], read_official(config["checkpoint"], config["schedular"]["epochs"]))
    prepare_process()
    set_meeting_place(config["dist_url"])
    L.seed_everything(config["seed"], verbose=False)
    datamodule, files = script.datamodule(config), OfficialFiles(script, config)  # type: ignore[call-arg]
    processes = find_processes(config["world_size"])
    trainer = build_trainer(
        baseline.settings(config, processes),
        event_log(config),
        datamodule.has_validation,
        environment(processes),
        callbacks=[files, *script.callbacks(config), *([after] if after is not None else [])],
    )
    add_wandb(trainer, config["logger"], resumed and resumed.checkpoint)
    model = script.model(config)
    model.check_data(datamodule)
    if baseline.extension is not None:
        for line in baseline.extension.odd_settings(baseline, config) if trainer.is_global_zero else ():
            log.warning("[notice] %s", line)
        baseline.extension.join(baseline, model, datamodule, trainer)
    if after is not None:
        after.load_weights(model)
    elif config["checkpoint"] and resumed is None:
        script.load(model, config["checkpoint"], bool(config.get("evaluate")))
    return Built(Run(trainer, model, datamodule, resumed), script, files)


def scored(baseline: YamlBaseline, built: Built, config: dict[str, Any]) -> None:
    """Rank 0, after ``--evaluate``: the line of log.txt, without ``train_…``, and results.json."""
    folder, script, results = Path(config["output_dir"]), built.script, built.model.results
    append(folder / "log.txt", epoch_line({}, results, 0, script.digits, script.results_as_text))
    write_results(folder, baseline.name, script, config, built.run.datamodule, results, checkpoint=config["checkpoint"])


def finish(baseline: YamlBaseline, built: Built, config: dict[str, Any]) -> None:
    """After training: the one evaluation of a script that has none after its epochs, and results.json."""
    trainer, datamodule, files = built.run.trainer, built.run.datamodule, built.files
    if not files.kept:
        log.info("max_steps=%s ended the run within its first epoch: there is nothing to score", config["max_steps"])
        return
    results = files.results
    if not datamodule.has_validation and datamodule.eval_splits:  # type: ignore[attr-defined]
        trainer.test(built.model, datamodule=datamodule, verbose=False)
        results = built.model.results
    if trainer.is_global_zero:
        folder = Path(config["output_dir"])
        checkpoint = folder / files.kept
        write_results(
            folder, baseline.name, built.script, config, datamodule, results, checkpoint, epoch=files.best_epoch
        )
