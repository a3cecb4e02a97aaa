"""What differs between the baselines' demos: their launchers' items, and how their attention is read for Fig. 5."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from demo.judgement import Judgement, meter_judgement, vilt_judgement
from epic_vlp.baseline import EpicBaseline
from meter.modules.epic_meter import METER
from meter.train import BASELINE as METER_RUN
from vilt.modules.epic_vilt import VILT
from vilt.train import BASELINE as VILT_RUN
from vlp.sacred_dialect import run as arrow_run


@dataclass(frozen=True)
class Baseline:
    """A baseline as the demo sees it.

    Attributes:
        run: its launcher's classes; ``run.name`` is the folder of ``run.py``.
        epic: its EPIC; ``epic.name`` is how a reader knows it.
        output: the demo's folder below ``runs``.
        pretraining: items of the official pre-training command: task, then switches.
        finetuning: the named config of a task's fine-tuning, ``{}`` the task.
        learning: how fast so small a model learns in so few steps.
        steps, step_seconds: for ten minutes on two CPU cores, and how long one takes there without EPIC.
        model: named configs that choose a small model of the official classes.
        family: of the small language model.
        judge: the EPIC model's verdict on a caption, with the attention map that led to it.
    """

    run: arrow_run.Baseline
    epic: EpicBaseline
    output: str
    pretraining: Sequence[str]
    learning: Sequence[str]
    steps: int
    step_seconds: float
    finetuning: str
    model: Sequence[str]
    family: str
    judge: Callable[[Any, dict[str, Any], Tensor], Judgement]


BASELINES = {
    "meter": Baseline(
        run=METER_RUN,
        epic=METER,
        output="demo",
        pretraining=("task_mlm_itm_clip_bert",),
        learning=("learning_rate=3e-4",),
        steps=580,
        step_seconds=0.26,
        finetuning="task_finetune_{}_clip_bert",
        model=("clip16", "text_roberta", "tiny"),
        family="roberta",
        judge=meter_judgement,
    ),
    "vilt": Baseline(
        run=VILT_RUN,
        epic=VILT,
        output="demo_vilt",
        pretraining=("task_mlm_itm", "whole_word_masking=True"),
        # Nothing in it is trained before, and its official warm-up has 2500 steps.
        learning=("learning_rate=1e-3", "warmup_steps=0.1"),
        steps=1000,
        step_seconds=0.13,
        finetuning="task_finetune_{}",
        model=("tiny",),
        family="bert",
        judge=vilt_judgement,
    ),
}
