"""The fifth baseline's configuration: every key that the shared parts read, and five of its own."""

from __future__ import annotations

from typing import Any

from vlp.sacred_dialect.config import add_named_configs, loss_names, new_experiment

# EPIC >
from epic_common.config import EpicConfig, named_configs  # isort: skip
# < EPIC

TASKS = ("mlm", "itm", "irtr")
RETRIEVAL = {"loss_names": loss_names(TASKS, irtr=1), "get_recall_metric": True, "draw_false_text": 15}
NAMED_CONFIGS: dict[str, Any] = {
    "task_pretrain": {"exp_name": "pretrain"},
    "task_finetune_irtr_coco": {"exp_name": "finetune_irtr_coco", **RETRIEVAL},
}

ex = new_experiment("Fifth")
ex.add_config(
    {
        **{"exp_name": "fifth", "seed": 0, "loss_names": loss_names(TASKS, mlm=1, itm=1), "batch_size": 64},
        **{"max_epoch": 10, "max_steps": None, "val_check_interval": 1.0, "get_recall_metric": False},
        **{"test_only": False, "fast_dev_run": False, "resume_from": None, "load_path": "", "log_dir": "result"},
        **{"per_gpu_batchsize": 0, "num_gpus": 1, "num_nodes": 1, "num_workers": 2, "precision": 32},
        **{"data_root": "", "datasets": ["coco"], "train_transform_keys": ["vit"], "val_transform_keys": ["vit"]},
        **{"image_size": 64, "image_only": False, "draw_false_image": 1, "draw_false_text": 0},
        **{"tokenizer": "bert-base-uncased", "vocab_size": 30522, "max_text_len": 30},
        **{"mlm_prob": 0.15, "whole_word_masking": True, "optim_type": "adamw", "learning_rate": 1e-3},
        **{"weight_decay": 0.01, "warmup_steps": 0.1, "decay_power": 1, "end_lr": 0},
        **{"patch_size": 16, "hidden_size": 64, "num_heads": 4, "num_layers": 3, "drop_rate": 0.1},  # the model's own
        # EPIC >
        **{"epic": EpicConfig().to_dict(), "teacher_path": "", "saliency_cache": ""},
        # < EPIC
    }
)
# EPIC >
NAMED_CONFIGS |= named_configs()
# < EPIC
add_named_configs(ex, NAMED_CONFIGS)
