"""METER, as everything that uses a baseline sees it."""

from __future__ import annotations

from meter.config import MeterKeys, ex
from meter.datamodules.multitask_datamodule import MTDataModule
from meter.modules.checkpoints import LAYOUT
from meter.modules.meter_module import METERTransformerSS
from meter.modules.meter_utils import HEAD_NAMES
from vlp.sacred_dialect.baseline import SacredBaseline

# EPIC >
from meter.modules.epic_meter import EPIC  # isort: skip
# < EPIC

BASELINE = SacredBaseline(
    name="meter",
    model=METERTransformerSS,
    datamodule=MTDataModule,
    layout=LAYOUT,
    heads=tuple(HEAD_NAMES),
    text_family="roberta",
    experiment=ex,
    schema=MeterKeys,
    pretraining=("task_mlm_itm_clip_bert",),
    finetuning="task_finetune_{}_clip_bert",
    small=("clip16", "text_roberta", "tiny"),
    # EPIC >
    extension=EPIC,
    # < EPIC
)
