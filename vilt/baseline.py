"""ViLT, as everything that uses a baseline sees it."""

from __future__ import annotations

from vilt.config import ViltKeys, ex
from vilt.datamodules.multitask_datamodule import MTDataModule
from vilt.modules.checkpoints import LAYOUT
from vilt.modules.vilt_module import ViLTransformerSS
from vlp.sacred_dialect.baseline import SacredBaseline

# EPIC >
from vilt.modules.epic_vilt import EPIC  # isort: skip
# < EPIC

BASELINE = SacredBaseline(
    name="vilt",
    model=ViLTransformerSS,
    datamodule=MTDataModule,
    layout=LAYOUT,
    heads=("mlm_score", "itm_score", "mpp_score", "vqa_classifier", "nlvr2_classifier"),
    text_family="bert",
    experiment=ex,
    schema=ViltKeys,
    pretraining=("task_mlm_itm", "whole_word_masking=True"),
    finetuning="task_finetune_{}",
    small=("tiny",),
    # EPIC >
    extension=EPIC,
    # < EPIC
)
