"""Full-size models, built without memory on torch's meta device, against the official tables.

Source: docs/official/vilt.md §4, §6, §11.
"""

from __future__ import annotations

import csv
from functools import cache

import pytest
import torch
from torch import nn

from tests.parity import golden
from tests.parity.fixture import FIXTURES, check_keys
from tests.unit.small_parts import optimised
from tests.unit.vilt.small import resolved
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.vilt_utils import set_schedule
from vlp.checkpoint.loading import freeze_itm_head

NAMED = {
    "pretrain": "task_mlm_itm",
    "vqa": "task_finetune_vqa_randaug",
    "nlvr2": "task_finetune_nlvr2_randaug",
    "irtr_coco": "task_finetune_irtr_coco_randaug",
    "irtr_f30k": "task_finetune_irtr_f30k_randaug",
}
PARAMETERS = {
    "pretrain": 135_660_092,
    "vqa": 117_588_537,
    "nlvr2": 113_962_754,
    "irtr_coco": 111_597_315,
    "irtr_f30k": 111_597_315,
}


@cache
def full_size(variant: str) -> ViLTransformerSS:
    with torch.device("meta"):
        return ViLTransformerSS(resolved([NAMED[variant]], init="random", max_steps=100_000))


@pytest.mark.parametrize("variant", NAMED)
def test_state_dict_keys_shapes_and_order(variant: str) -> None:
    check_keys(full_size(variant).state_dict(), golden.keys(FIXTURES / "vilt" / f"keys_{variant}.tsv"))


@pytest.mark.parametrize("variant", NAMED)
def test_number_of_parameters(variant: str) -> None:
    assert sum(p.numel() for p in full_size(variant).parameters()) == PARAMETERS[variant]


@pytest.mark.parametrize("variant", ["pretrain", "vqa", "nlvr2", "irtr_coco"])
def test_optimiser_groups_of_every_parameter(variant: str) -> None:
    model = full_size(variant)
    if variant == "irtr_coco":
        freeze_itm_head(model)
    (optimizer,), _ = set_schedule(model)
    ours = optimised(optimizer, model.named_parameters(), model.config["learning_rate"])
    with open(FIXTURES / "vilt" / "optimiser_groups.tsv", newline="", encoding="utf-8") as handle:
        official = {
            row["key"]: (float(row["lr_multiplier"]), float(row["weight_decay"]), row["requires_grad"] == "1")
            for row in csv.DictReader(handle, delimiter="\t")
            if row["task"] == variant
        }
    assert ours.keys() == official.keys()
    assert {key: pytest.approx(value) for key, value in official.items()} == ours


def test_groups_stand_in_the_official_order() -> None:
    (optimizer,), _ = set_schedule(full_size("vqa"))
    settings = [(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert settings == [(1e-4, 0.01), (1e-4, 0), (pytest.approx(1e-3), 0.01), (pytest.approx(1e-3), 0)]
    names = {id(p): name for name, p in full_size("vqa").named_parameters()}
    heads = [names[id(p)] for group in optimizer.param_groups[2:] for p in group["params"]]
    assert len(heads) == 6 and all(name.startswith("vqa_classifier.") for name in heads)


@pytest.mark.parametrize("variant", ["pretrain", "vqa", "nlvr2"])
def test_layer_norms(variant: str) -> None:
    eps = {name: module.eps for name, module in full_size(variant).named_modules() if isinstance(module, nn.LayerNorm)}
    for name, value in eps.items():
        blocks, classifiers = name.startswith("transformer."), "_classifier." in name
        assert value == (1e-6 if blocks else 1e-5 if classifiers else 1e-12), name
    assert len([name for name in eps if name.startswith("transformer.")]) == 2 * 12 + 1


def test_dropouts() -> None:
    model = full_size("pretrain")
    dropped = {name for name, module in model.named_modules() if getattr(module, "p", 0) > 0}
    parts = ("attn.proj_drop", "mlp.drop1", "mlp.drop2")
    expected = {f"transformer.blocks.{i}.{part}" for i in range(12) for part in parts}
    assert dropped == {"text_embeddings.dropout", "transformer.pos_drop"} | expected
    assert {model.get_submodule(name).p for name in dropped} == {0.1}


@pytest.mark.parametrize("variant", ["irtr_coco", "nlvr2", "vqa"])
def test_half_a_task_builds_a_head_and_runs_no_objective(variant: str) -> None:
    model = full_size(variant)
    task = variant.split("_")[0]
    assert model.current_tasks == [task]
    assert hasattr(model, "itm_score") == (task == "irtr")
