"""METER's part of a run: what its two launchers hand to the run of the Arrow baselines.

Source: docs/official/meter.md §1.3.
"""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins.environments import ClusterEnvironment

from meter.config import ex
from meter.datamodules.multitask_datamodule import MTDataModule
from meter.modules.checkpoints import load_checkpoint
from meter.modules.meter_module import METERTransformerSS
from meter.modules.meter_utils import HEAD_NAMES
from vlp.sacred_dialect import run as arrow_run
from vlp.sacred_dialect.config import check_run

# EPIC >
from functools import partial  # isort: skip
from epic_vlp.hooks import join_run  # isort: skip
from meter.modules.epic_meter import METER  # isort: skip
# < EPIC

# Every task that is built, and the kind of data that it learns from.
TASK_DATA = {"mlm": "caption", "itm": "caption", "irtr": "caption", "vqa": "vqa", "nlvr2": "nlvr2", "snli": "snli"}


def run(config: dict[str, Any], environment: ClusterEnvironment | None = None) -> None:
    """One process of a run; ``environment`` is that of another launcher (MPI)."""
    extras: list[arrow_run.Extra] = []
    # EPIC >
    extras.append(partial(join_run, METER))
    # < EPIC
    arrow_run.run(BASELINE, config, environment, extras)


def check_config(config: dict[str, Any]) -> None:
    """Refuse what cannot run; a ValueError names the key."""
    check_run(config, ex, TASK_DATA, MTDataModule.specs)


BASELINE = arrow_run.Baseline("meter", check_config, MTDataModule, METERTransformerSS, load_checkpoint, HEAD_NAMES)
