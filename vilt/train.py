"""ViLT's part of a run: what run.py hands to the run of the Arrow baselines (docs/official/vilt.md §1)."""

from __future__ import annotations

from typing import Any

from vilt.config import ex
from vilt.datamodules.multitask_datamodule import MTDataModule, check_pictures
from vilt.modules.checkpoints import load_checkpoint
from vilt.modules.vilt_module import ViLTransformerSS
from vlp.sacred_dialect import run as arrow_run
from vlp.sacred_dialect.config import check_run

# EPIC >
from functools import partial  # isort: skip
from epic_vlp.hooks import join_run  # isort: skip
from vilt.modules.epic_vilt import VILT  # isort: skip
# < EPIC

# Every task that is built, and the kind of data that it learns from.
TASK_DATA = {"mlm": "caption", "itm": "caption", "mpp": "caption", "irtr": "caption", "vqa": "vqa", "nlvr2": "nlvr2"}
# What an evaluation cannot do without.
HEADS = ("mlm_score", "itm_score", "mpp_score", "vqa_classifier", "nlvr2_classifier")


def run(config: dict[str, Any]) -> None:
    """One process of a run."""
    extras: list[arrow_run.Extra] = []
    # EPIC >
    extras.append(partial(join_run, VILT))
    # < EPIC
    arrow_run.run(BASELINE, config, extras=extras)


def check_config(config: dict[str, Any]) -> None:
    """Refuse what cannot run; a ValueError names the key."""
    check_run(config, ex, TASK_DATA, MTDataModule.specs)
    check_pictures(config)


BASELINE = arrow_run.Baseline("vilt", check_config, MTDataModule, ViLTransformerSS, load_checkpoint, HEADS)
