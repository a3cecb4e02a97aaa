"""The official configuration: every key and every override, and in which order they count.

Source: docs/official/vilt.md §1, §2.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.unit.configs import OURS, resolve
from vilt.baseline import BASELINE
from vilt.config import NAMED_CONFIGS, ex
from vlp.sacred_dialect.config import base_config

BASE: dict[str, Any] = base_config(ex)
resolved = partial(resolve, ex)

OFFICIAL = {
    "exp_name": "vilt",
    "seed": 0,
    "datasets": ["coco", "vg", "sbu", "gcc"],
    "loss_names": {"itm": 1, "mlm": 1, "mpp": 0, "vqa": 0, "nlvr2": 0, "irtr": 0},
    "batch_size": 4096,
    "train_transform_keys": ["pixelbert"],
    "val_transform_keys": ["pixelbert"],
    "image_size": 384,
    "max_image_len": -1,
    "patch_size": 32,
    "draw_false_image": 1,
    "image_only": False,
    "vqav2_label_size": 3129,
    "max_text_len": 40,
    "tokenizer": "bert-base-uncased",
    "vocab_size": 30522,
    "whole_word_masking": False,
    "mlm_prob": 0.15,
    "draw_false_text": 0,
    "vit": "vit_base_patch32_384",
    "hidden_size": 768,
    "num_heads": 12,
    "num_layers": 12,
    "mlp_ratio": 4,
    "drop_rate": 0.1,
    "optim_type": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "decay_power": 1,
    "max_epoch": 100,
    "max_steps": 25000,
    "warmup_steps": 2500,
    "end_lr": 0,
    "lr_mult": 1,
    "get_recall_metric": False,
    "resume_from": None,
    "fast_dev_run": False,
    "val_check_interval": 1.0,
    "test_only": False,
    "data_root": "",
    "log_dir": "result",
    "per_gpu_batchsize": 0,
    "num_gpus": 1,
    "num_nodes": 1,
    "load_path": "",
    "num_workers": 8,
    "precision": 16,
}


def tasks(**active: float) -> dict[str, float]:
    return {name: active.get(name, 0) for name in ("itm", "mlm", "mpp", "vqa", "nlvr2", "irtr")}


# The rows of the table, each with its variant's difference.
PRETRAIN = {
    "exp_name": "mlm_itm",
    "datasets": ["coco", "vg", "sbu", "gcc"],
    "loss_names": tasks(itm=1, mlm=1),
    "batch_size": 4096,
    "max_epoch": 10,
    "max_image_len": 200,
}
NLVR2 = {
    "exp_name": "finetune_nlvr2",
    "datasets": ["nlvr2"],
    "loss_names": tasks(nlvr2=1),
    "batch_size": 128,
    "max_epoch": 10,
    "max_steps": None,
    "warmup_steps": 0.1,
    "draw_false_image": 0,
    "learning_rate": 1e-4,
}
VQA = {
    "exp_name": "finetune_vqa",
    "datasets": ["vqa"],
    "loss_names": tasks(vqa=1),
    "batch_size": 256,
    "max_epoch": 10,
    "max_steps": None,
    "warmup_steps": 0.1,
    "draw_false_image": 0,
    "learning_rate": 1e-4,
    "val_check_interval": 0.1,
    "lr_mult": 10,
}
RETRIEVAL = {
    "exp_name": "finetune_irtr_coco",
    "datasets": ["coco"],
    "loss_names": tasks(itm=0.5, irtr=1),
    "batch_size": 256,
    "max_epoch": 10,
    "max_steps": None,
    "warmup_steps": 0.1,
    "get_recall_metric": True,
    "draw_false_text": 15,
    "learning_rate": 1e-4,
}
FLICKR = {**RETRIEVAL, "datasets": ["f30k"], "exp_name": "finetune_irtr_f30k"}
RANDAUG = {"train_transform_keys": ["pixelbert_randaug"]}
OVERRIDES: dict[str, dict[str, Any]] = {
    "env_dandelin": {
        "data_root": "/data2/dsets/dataset",
        "log_dir": "/data2/vilt/result",
        "num_gpus": 8,
        "num_nodes": 1,
    },
    "task_mlm_itm": PRETRAIN,
    "task_mlm_itm_randaug": {**PRETRAIN, **RANDAUG, "exp_name": "mlm_itm_randaug"},
    "task_mlm_itm_mpp": {**PRETRAIN, "exp_name": "mlm_itm_mpp", "loss_names": tasks(itm=1, mlm=1, mpp=1)},
    "task_finetune_nlvr2": NLVR2,
    "task_finetune_nlvr2_randaug": {**NLVR2, **RANDAUG, "exp_name": "finetune_nlvr2_randaug"},
    "task_finetune_vqa": VQA,
    "task_finetune_vqa_randaug": {**VQA, **RANDAUG, "exp_name": "finetune_vqa_randaug"},
    "task_finetune_irtr_coco": RETRIEVAL,
    "task_finetune_irtr_coco_randaug": {**RETRIEVAL, **RANDAUG, "exp_name": "finetune_irtr_coco_randaug"},
    "task_finetune_irtr_f30k": FLICKR,
    "task_finetune_irtr_f30k_randaug": {**FLICKR, **RANDAUG, "exp_name": "finetune_irtr_f30k_randaug"},
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
}


def test_the_base_config_holds_every_official_key_with_its_value_and_no_other() -> None:
    assert {key: BASE[key] for key in OFFICIAL} == OFFICIAL
    assert list(BASE["loss_names"]) == list(OFFICIAL["loss_names"])  # type: ignore[call-overload]
    assert BASE.keys() == {*OFFICIAL, *OURS}
    assert not BASE["epic"]["enabled"]


@pytest.mark.parametrize("name", OVERRIDES)
def test_official_named_configs_override_what_the_table_says(name: str) -> None:
    assert resolved([name]) == {**BASE, **OVERRIDES[name]}


def test_every_other_named_config_is_ours() -> None:
    others = [name for name in NAMED_CONFIGS if name not in OVERRIDES and not name.startswith("epic")]
    assert others == ["data_16m", "tiny"]


def test_a_later_named_config_overrides_an_earlier_one_and_updates_override_both() -> None:
    """So stepXXk must follow the task, which sets max_epoch too."""
    right, wrong = resolved(["task_mlm_itm", "step200k"]), resolved(["step200k", "task_mlm_itm"])
    assert (right["max_epoch"], right["max_steps"]) == (200, 200000)
    assert (wrong["max_epoch"], wrong["max_steps"]) == (10, 200000)
    assert resolved(["task_mlm_itm", "step200k"], max_epoch=7)["max_epoch"] == 7


@pytest.mark.parametrize("name", [name for name in OVERRIDES if name.startswith("task_")])
def test_official_configs_of_built_tasks_are_accepted(name: str) -> None:
    BASELINE.check(resolved([name], data_root="arrow"))


def test_a_dotted_update_turns_on_one_task_more() -> None:
    assert resolved(["task_mlm_itm"], loss_names={"mpp": 1})["loss_names"] == tasks(itm=1, mlm=1, mpp=1)
