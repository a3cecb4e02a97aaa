"""The runs of ViLT's downstream tasks on scenes; officially it has no SNLI-VE."""

from __future__ import annotations

from demo.task_recipes_sacred import FEWER_TEXTS, SacredTasks, Training, needed_runs
from vlp.baseline import get_baseline

TRAINING = {
    "Retrieval": Training(1, 3e-4, FEWER_TEXTS),
    "VQA": Training(4, 5e-4, ("lr_mult=4",)),
    "NLVR": Training(5, 5e-4),
}

VILT = SacredTasks(
    tasks=("zero_shot", *TRAINING),
    needs=needed_runs(TRAINING),
    image_size=64,
    layouts=("nlvr2", "vqa"),
    converted="arrow/vqav2_test.arrow",
    pretrain_epochs=15,
    description=get_baseline("vilt"),
    pretraining=(1e-3, ("mlm_prob=0.4",)),  # nothing in it is trained before
    training=TRAINING,
    run_seconds={"Pretrain": 15, "zero_shot": 60, "Retrieval": 120, "Retrieval_test": 60},
)
