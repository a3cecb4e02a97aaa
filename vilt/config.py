"""ViLT's configuration: the official base keys and named configs, for ``python run.py with …``.

Keys below "ours" and those of ``vlp.sacred_dialect.config`` are not official.

Source: docs/official/vilt.md §2.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from vlp.sacred_dialect.config import add_named_configs, loss_names, new_experiment

# EPIC >
from epic_common.config import EpicConfig, named_configs
# < EPIC

ex = new_experiment("ViLT")

# A task's head is built from any value > 0, its objective is trained from 1 on; the number is never a weight.
_loss_names = partial(loss_names, ("itm", "mlm", "mpp", "vqa", "nlvr2", "irtr"))


@ex.config
def config() -> None:
    exp_name = "vilt"
    seed = 0
    datasets = ["coco", "vg", "sbu", "gcc"]
    loss_names = _loss_names(itm=1, mlm=1)
    batch_size = 4096  # wanted per optimiser step; accumulation makes up for per_gpu_batchsize
    # Image
    train_transform_keys = ["pixelbert"]
    val_transform_keys = ["pixelbert"]
    image_size = 384  # of the shorter side; the longer one has at most 1333/800 of it
    max_image_len = -1  # patches that are kept of an image; negative: all
    patch_size = 32
    draw_false_image = 1
    image_only = False
    # Text
    vqav2_label_size = 3129
    max_text_len = 40
    tokenizer = "bert-base-uncased"  # a name or a local folder
    vocab_size = 30522
    whole_word_masking = False
    mlm_prob = 0.15
    draw_false_text = 0
    # Transformer
    vit = "vit_base_patch32_384"
    hidden_size = 768
    num_heads = 12
    num_layers = 12
    mlp_ratio = 4
    drop_rate = 0.1
    # Optimiser
    optim_type = "adamw"
    learning_rate = 1e-4
    weight_decay = 0.01
    decay_power = 1
    max_epoch = 100
    max_steps = 25000
    warmup_steps = 2500  # a float is a fraction of the total
    end_lr = 0
    lr_mult = 1  # of the heads of VQAv2 and NLVR2
    # Run
    get_recall_metric = False
    resume_from = None  # a checkpoint, or "auto": the newest last.ckpt of this run's name, if any
    fast_dev_run = False
    val_check_interval = 1.0
    test_only = False
    # Machine
    data_root = ""
    log_dir = "result"
    per_gpu_batchsize = 0  # must be given
    num_gpus = 1  # processes per node
    num_nodes = 1
    load_path = ""
    num_workers = 8
    precision = 16  # 32, "bf16" or 16
    # Ours
    init = {"vision": "pretrained"}  # the transformer: pretrained, random, or a local file
    # EPIC >
    epic = EpicConfig().to_dict()
    teacher_path = ""  # checkpoint of the frozen teacher, a ViLT pre-trained without EPIC
    saliency_cache = ""  # folder of its scores, built by epic_saliency_cache.py, instead of the teacher itself
    # < EPIC


_PRETRAIN: dict[str, Any] = {
    "exp_name": "mlm_itm",
    "datasets": ["coco", "vg", "sbu", "gcc"],
    "loss_names": _loss_names(itm=1, mlm=1),
    "batch_size": 4096,
    "max_epoch": 10,
    "max_image_len": 200,
}
_FINETUNE: dict[str, Any] = {"max_epoch": 10, "max_steps": None, "warmup_steps": 0.1, "learning_rate": 1e-4}
_NLVR2: dict[str, Any] = {
    **_FINETUNE,
    "exp_name": "finetune_nlvr2",
    "datasets": ["nlvr2"],
    "loss_names": _loss_names(nlvr2=1),
    "batch_size": 128,
    "draw_false_image": 0,
}
_VQA: dict[str, Any] = {
    **_FINETUNE,
    "exp_name": "finetune_vqa",
    "datasets": ["vqa"],
    "loss_names": _loss_names(vqa=1),
    "batch_size": 256,
    "draw_false_image": 0,
    "val_check_interval": 0.1,
    "lr_mult": 10,
}
_RETRIEVAL: dict[str, Any] = {
    **_FINETUNE,
    "loss_names": _loss_names(itm=0.5, irtr=1),
    "batch_size": 256,
    "get_recall_metric": True,
    "draw_false_text": 15,
}
_TASKS: dict[str, dict[str, Any]] = {
    "task_mlm_itm": _PRETRAIN,
    "task_finetune_nlvr2": _NLVR2,
    "task_finetune_vqa": _VQA,
    "task_finetune_irtr_coco": {**_RETRIEVAL, "exp_name": "finetune_irtr_coco", "datasets": ["coco"]},
    "task_finetune_irtr_f30k": {**_RETRIEVAL, "exp_name": "finetune_irtr_f30k", "datasets": ["f30k"]},
}
NAMED_CONFIGS: dict[str, dict[str, Any]] = {
    "env_dandelin": {
        "data_root": "/data2/dsets/dataset",
        "log_dir": "/data2/vilt/result",
        "num_gpus": 8,
        "num_nodes": 1,
    },
    **_TASKS,
    **{
        f"{name}_randaug": {
            **values,
            "exp_name": f"{values['exp_name']}_randaug",
            "train_transform_keys": ["pixelbert_randaug"],
        }
        for name, values in _TASKS.items()
    },
    "task_mlm_itm_mpp": {
        **_PRETRAIN,
        "exp_name": "mlm_itm_mpp",
        "loss_names": _loss_names(itm=1, mlm=1, mpp=1),
    },
    # After a task's config, which sets max_epoch too
    "step25k": {"max_epoch": 100, "max_steps": 25000},
    "step50k": {"max_epoch": 100, "max_steps": 50000},
    "step100k": {"max_epoch": 100, "max_steps": 100000},
    "step200k": {"max_epoch": 200, "max_steps": 200000},
    "vit32_base": {
        "vit": "vit_base_patch32_384",
        "patch_size": 32,
        "hidden_size": 768,
        "num_heads": 12,
        "num_layers": 12,
    },
    # Ours: the 16M setting of the paper, and a model of the same classes that a CPU trains
    "data_16m": {"datasets": ["coco", "vg", "sbu", "gcc", "cc12m"]},
    "tiny": {
        "vit": "vit_tiny_patch16_64",
        "patch_size": 16,
        "image_size": 64,
        "hidden_size": 128,
        "num_heads": 4,
        "num_layers": 4,
        "drop_rate": 0.0,  # models of this size underfit
        "max_text_len": 30,
        "init": {"vision": "random"},
        "precision": 32,
    },
}
# EPIC >
NAMED_CONFIGS |= named_configs()
# < EPIC
add_named_configs(ex, NAMED_CONFIGS)
