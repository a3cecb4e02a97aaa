"""The fifth baseline, as everything that uses a baseline sees it."""

from __future__ import annotations

from tests.fifth.config import FifthKeys, ex
from tests.fifth.model import FifthModel
from vlp.checkpoint.layout import CheckpointLayout
from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.sacred_dialect.baseline import SacredBaseline

# EPIC >
from tests.fifth.epic_fifth import EPIC  # isort: skip
# < EPIC

BASELINE = SacredBaseline(
    name="fifth",
    model=FifthModel,
    datamodule=ArrowDataModule,
    layout=CheckpointLayout(
        title="Fifth",
        recognised_by=("patch_embeddings.", "transformer.encoder."),
        architecture=("patch_size", "vocab_size", "max_text_len", "hidden_size", "num_heads", "num_layers"),
        named_in_hints=("image_size", "patch_size", "vocab_size", "hidden_size", "num_layers"),
        trunk=("patch_embeddings.", "transformer.", "pooler."),
    ),
    heads=("mlm_score", "itm_score"),
    text_family="bert",
    experiment=ex,
    schema=FifthKeys,
    pretraining=("task_pretrain",),
    finetuning="task_finetune_{}",
    small=(),
    # EPIC >
    extension=EPIC,
    # < EPIC
)
