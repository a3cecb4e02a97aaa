"""METER's configuration: the official base keys and named configs, for ``python run.py with …``.

Keys below "ours" and those of ``vlp.sacred_dialect.config`` are not official.

Source: docs/official/meter.md §2.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from vlp.sacred_dialect.config import add_named_configs, loss_names, new_experiment

# EPIC >
from epic_common.config import EpicConfig, named_configs
# < EPIC

ex = new_experiment("METER")

TASKS = ("itm", "mlm", "mpp", "vqa", "vcr", "vcr_qar", "nlvr2", "irtr", "contras", "snli")
_loss_names = partial(loss_names, TASKS)  # only "> 0" matters, the number is never a weight


@ex.config
def config() -> None:
    exp_name = "meter"
    seed = 0
    datasets = ["coco", "vg", "sbu", "gcc"]
    loss_names = _loss_names(itm=1, mlm=1)
    batch_size = 4096  # wanted per optimiser step; accumulation makes up for per_gpu_batchsize
    # Image
    train_transform_keys = ["clip"]
    val_transform_keys = ["clip"]
    image_size = 224
    patch_size = 32
    draw_false_image = 1
    image_only = False
    resolution_before = 224
    # Text
    vqav2_label_size = 3129
    max_text_len = 40
    tokenizer = "bert-base-uncased"  # also the text encoder's name, or a local folder
    vocab_size = 30522
    whole_word_masking = False
    mlm_prob = 0.15
    draw_false_text = 0
    # Fusion
    num_top_layer = 6
    input_image_embed_size = 768
    input_text_embed_size = 768
    vit = "ViT-B/32"
    hidden_size = 768
    num_heads = 12
    num_layers = 6
    mlp_ratio = 4
    drop_rate = 0.1
    # Optimiser
    optim_type = "adamw"
    learning_rate = 1e-5
    weight_decay = 0.01
    decay_power = 1
    max_epoch = 100
    max_steps = 100000
    warmup_steps = 10000  # a float is a fraction of the total
    end_lr = 0
    lr_mult_head = 5
    lr_mult_cross_modal = 5
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
    num_gpus = 8  # processes per node
    num_nodes = 1
    load_path = ""
    num_workers = 8
    precision = 32  # 32, "bf16" or 16
    # Ours
    init = {"vision": "pretrained", "text": "pretrained"}  # pretrained, random, or a hub name or local file
    # EPIC >
    epic = EpicConfig().to_dict()
    teacher_path = ""  # checkpoint of the frozen teacher, a METER pre-trained without EPIC
    saliency_cache = ""  # folder of its scores, built by epic_saliency_cache.py, instead of the teacher itself
    # < EPIC


@ex.named_config
def task_mlm_itm_clip_bert() -> None:
    exp_name = "mlm_itm"
    datasets = ["coco", "vg", "sbu", "gcc"]
    loss_names = _loss_names(itm=1, mlm=1)
    batch_size = 4096
    max_epoch = 10
    max_steps = 100000
    warmup_steps = 0.1
    whole_word_masking = True
    vocab_size = 30522
    max_text_len = 50
    image_size = 224
    tokenizer = "bert-base-uncased"
    train_transform_keys = ["clip"]
    val_transform_keys = ["clip"]
    learning_rate = 1e-5
    val_check_interval = 1.0
    lr_mult_head = 5
    lr_mult_cross_modal = 5
    num_top_layer = 6
    hidden_size = 768
    num_heads = 12


_FINETUNE: dict[str, Any] = {
    "max_steps": None,
    "warmup_steps": 0.1,
    "tokenizer": "bert-base-uncased",
    "input_text_embed_size": 768,
    "vit": "ViT-B/32",
    "train_transform_keys": ["clip"],
    "val_transform_keys": ["clip"],
    "input_image_embed_size": 768,
    "lr_mult_cross_modal": 5,
}
_RETRIEVAL: dict[str, Any] = {
    **_FINETUNE,
    "loss_names": _loss_names(itm=0.5, irtr=1),
    "batch_size": 512,
    "max_epoch": 10,
    "draw_false_text": 15,
    "get_recall_metric": True,
    "learning_rate": 5e-6,
    "lr_mult_head": 5,
    "image_size": 384,
}
NAMED_CONFIGS: dict[str, dict[str, Any]] = {
    "task_finetune_nlvr2_clip_bert": {
        **_FINETUNE,
        "exp_name": "finetune_nlvr2",
        "datasets": ["nlvr2"],
        "loss_names": _loss_names(nlvr2=1),
        "batch_size": 256,
        "max_epoch": 10,
        "draw_false_image": 0,
        "learning_rate": 1e-5,
        "lr_mult_head": 10,
        "max_text_len": 50,
        "image_size": 288,
    },
    "task_finetune_vqa_clip_bert": {
        **_FINETUNE,
        "exp_name": "finetune_vqa",
        "datasets": ["vqa"],
        "loss_names": _loss_names(vqa=1),
        "batch_size": 512,
        "max_epoch": 10,
        "draw_false_image": 0,
        "learning_rate": 5e-6,
        "lr_mult_head": 50,
        "val_check_interval": 0.1,
        "max_text_len": 50,
        "image_size": 576,
    },
    "task_finetune_irtr_coco_clip_bert": {**_RETRIEVAL, "exp_name": "finetune_irtr_coco", "datasets": ["coco"]},
    "task_finetune_irtr_f30k_clip_bert": {**_RETRIEVAL, "exp_name": "finetune_irtr_f30k", "datasets": ["f30k"]},
    "task_finetune_snli_clip_bert": {
        **_FINETUNE,
        "exp_name": "finetune_snli",
        "datasets": ["snli"],
        "loss_names": _loss_names(snli=1),
        "batch_size": 64,
        "max_epoch": 5,
        "draw_false_image": 0,
        "learning_rate": 2e-6,
        "lr_mult_head": 10,
        "max_text_len": 50,
        "image_size": 384,
    },
    # Image encoders
    "swin32_base224": {
        "vit": "swin_base_patch4_window7_224_in22k",
        "patch_size": 32,
        "image_size": 224,
        "train_transform_keys": ["imagenet"],
        "val_transform_keys": ["imagenet"],
        "input_image_embed_size": 1024,
        "resolution_before": 224,
    },
    "swin32_base384": {
        "vit": "swin_base_patch4_window12_384_in22k",
        "patch_size": 32,
        "image_size": 384,
        "train_transform_keys": ["imagenet"],
        "val_transform_keys": ["imagenet"],
        "input_image_embed_size": 1024,
        "resolution_before": 384,
    },
    "swin32_large384": {
        "vit": "swin_large_patch4_window12_384_in22k",
        "patch_size": 32,
        "image_size": 384,
        "train_transform_keys": ["imagenet"],
        "val_transform_keys": ["imagenet"],
        "input_image_embed_size": 1536,
        "resolution_before": 384,
    },
    "clip32": {
        "vit": "ViT-B/32",
        "image_size": 224,
        "patch_size": 32,
        "train_transform_keys": ["clip"],
        "val_transform_keys": ["clip"],
        "input_image_embed_size": 768,
    },
    "clip16": {
        "vit": "ViT-B/16",
        "image_size": 224,
        "patch_size": 16,
        "train_transform_keys": ["clip"],
        "val_transform_keys": ["clip"],
        "input_image_embed_size": 768,
    },
    # Text encoders
    "text_roberta": {"tokenizer": "roberta-base", "vocab_size": 50265, "input_text_embed_size": 768},
    "text_roberta_large": {"tokenizer": "roberta-large", "vocab_size": 50265, "input_text_embed_size": 1024},
    # Augmentation
    "imagenet_randaug": {"train_transform_keys": ["imagenet_randaug"]},
    "clip_randaug": {"train_transform_keys": ["clip_randaug"]},
    # Ours: the 16M setting of the paper, and models of the same classes that a CPU trains
    "data_16m": {"datasets": ["coco", "vg", "sbu", "gcc", "cc12m"]},
    "tiny": {
        "vit": "ViT-Tiny/16",
        "patch_size": 16,
        "image_size": 64,
        "train_transform_keys": ["clip"],
        "val_transform_keys": ["clip"],
        "input_image_embed_size": 128,
        "input_text_embed_size": 128,
        "hidden_size": 128,
        "num_heads": 4,
        "num_top_layer": 3,
        "drop_rate": 0.0,  # models of this size underfit
        "max_text_len": 30,
        "init": {"vision": "random", "text": "pretrained"},
    },
}
# EPIC >
NAMED_CONFIGS |= named_configs()
# < EPIC
add_named_configs(ex, NAMED_CONFIGS)
