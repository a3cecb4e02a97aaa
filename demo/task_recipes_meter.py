"""The runs of METER's downstream tasks on scenes."""

from __future__ import annotations

from demo.task_recipes_sacred import FEWER_TEXTS, SacredTasks, Training, needed_runs
from vlp.baseline import get_baseline

TRAINING = {
    "Retrieval": Training(1, 1e-4, FEWER_TEXTS),
    "VQA": Training(2, 1e-3, ("lr_mult_head=1", "lr_mult_cross_modal=1")),
    "VE": Training(3, 2e-4),
    "NLVR": Training(5, 2e-4),
}

METER = SacredTasks(
    tasks=("zero_shot", *TRAINING),
    needs=needed_runs(TRAINING),
    image_size=64,
    layouts=("nlvr2", "snli", "vqa"),
    converted="arrow/vqav2_test.arrow",
    pretrain_epochs=10,
    description=get_baseline("meter"),
    pretraining=(3e-4, ("mlm_prob=0.4",)),
    training=TRAINING,
    run_seconds={"Pretrain": 30, "zero_shot": 60, "Retrieval": 120, "Retrieval_test": 60},
)
