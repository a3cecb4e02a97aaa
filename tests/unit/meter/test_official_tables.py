"""Full-size models, built without memory on torch's meta device, against the official tables.

Source: docs/official/meter.md §4, §6, §11.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from timm.layers import DropPath
from timm.models.vision_transformer import Attention
from torch import nn

from meter.modules.clip_model import clip_key
from meter.modules.meter_module import METERTransformerSS
from meter.modules.meter_utils import set_schedule
from tests.parity import golden
from tests.parity.fixture import FIXTURES, check_keys
from tests.unit.meter.small import resolved
from tests.unit.small_parts import optimised
from vlp.checkpoint.loading import freeze_itm_head
from vlp.nn.attention import AttentionProjections
from vlp.nn.official_names import swin_key

PRETRAIN = "task_mlm_itm_clip_bert"
RETRIEVAL = "task_finetune_irtr_f30k_clip_bert"
VQA, NLVR2, SNLI = (f"task_finetune_{task}_clip_bert" for task in ("vqa", "nlvr2", "snli"))
LINES: dict[str, tuple[list[str], int]] = {
    "pretrain": ([PRETRAIN, "clip16", "text_roberta"], 288),
    "pretrain_clip32_224": ([PRETRAIN, "clip32", "text_roberta"], 224),
    "pretrain_clip32_bert_224": ([PRETRAIN, "clip32"], 224),
    "pretrain_swin_base_384": ([PRETRAIN, "swin32_base384", "text_roberta"], 384),
    "irtr": ([RETRIEVAL, "clip16", "text_roberta"], 384),
    "vqa": ([VQA, "clip16", "text_roberta"], 576),
    "nlvr2": ([NLVR2, "clip16", "text_roberta"], 288),
    "snli": ([SNLI, "clip16", "text_roberta"], 384),
}


@cache
def full_size(variant: str) -> METERTransformerSS:
    named, image_size = LINES[variant]
    with torch.device("meta"):
        return METERTransformerSS(resolved(named, init="random", image_size=image_size, max_steps=100_000))


def table(name: str) -> list[dict[str, str]]:
    with open(FIXTURES / "meter" / f"{name}.tsv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


@pytest.mark.parametrize("variant", LINES)
def test_state_dict_keys_shapes_and_order(variant: str) -> None:
    check_keys(full_size(variant).state_dict(), golden.keys(FIXTURES / "meter" / f"keys_{variant}.tsv"))


def test_number_of_values() -> None:
    for variant, count in (("pretrain", 358_530_139), ("pretrain_clip32_224", 360_088_411)):
        assert sum(t.numel() for t in full_size(variant).state_dict().values() if t.is_floating_point()) == count


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("pretrain", "optimiser_groups"),
        ("pretrain_clip32_224", "optimiser_groups_clip32_224"),
        ("pretrain_clip32_bert_224", "optimiser_groups_clip32_bert_224"),
        ("pretrain_swin_base_384", "optimiser_groups_swin_base_384"),
        *((task, f"optimiser_groups_{task}") for task in ("irtr", "vqa", "nlvr2", "snli")),
    ],
)
def test_optimiser_groups_of_every_parameter(variant: str, name: str) -> None:
    model = full_size(variant)
    if variant == "irtr":
        freeze_itm_head(model)
    (optimizer,), _ = set_schedule(model)
    ours = optimised(optimizer, model.official_named_parameters(), model.config["learning_rate"])
    official = {
        row["key"]: (float(row["lr_mult"]), float(row["weight_decay"]), row["requires_grad"] == "1")
        for row in table(name)
    }
    assert ours.keys() == official.keys()
    assert {key: pytest.approx(value) for key, value in official.items()} == ours
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(official)


def test_groups_stand_in_the_official_order() -> None:
    (optimizer,), _ = set_schedule(full_size("pretrain"))
    settings = [(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert settings == [(1e-5, 0.01), (1e-5, 0), (5e-5, 0.01), (5e-5, 0), (5e-5, 0.01), (5e-5, 0)]
    names = {id(p): name for name, p in full_size("pretrain").named_parameters()}
    groups = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    assert all("_score" in name for name in groups[2] + groups[3])
    assert all("cross_modal" in name for name in groups[4] + groups[5])


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("pretrain", "norms_dropouts"),
        ("pretrain_swin_base_384", "norms_dropouts_swin_base_384"),
        ("vqa", "norms_dropouts_vqa"),
    ],
)
def test_layer_norms_and_dropouts(variant: str, name: str) -> None:
    official = {(row["module"], row["kind"]): row["value"] for row in table(name)}
    ours = norms_and_dropouts(full_size(variant))
    assert ours.keys() <= official.keys()
    assert {official[key] for key in official.keys() - ours.keys()} <= {"0"}  # a module that does nothing may be absent
    for key, value in official.items():
        assert ours.get(key, [0.0]) == pytest.approx(
            [float(number) for number in value.split(",")], abs=1e-6, rel=1e-4
        ), key


def norms_and_dropouts(model: nn.Module) -> dict[tuple[str, str], list[float]]:
    """(official module, kind) -> values, as the tables list them."""
    found: dict[tuple[str, str], list[float]] = {}
    for own, module in model.named_modules():
        name = official_module(own)
        for kind, values in settings_of(module):
            if kind == "dropout" and name.startswith("vit_model.visual."):
                assert values == [0.0], name  # CLIP has no dropout, timm's ViT has modules for it
                continue
            key = (f"{name}.dropout" if isinstance(module, AttentionProjections) else name, kind)
            assert found.setdefault(key, values) == values, f"two of the modules that are officially {name} differ"
    return found


def settings_of(module: nn.Module) -> Iterator[tuple[str, list[float]]]:
    if isinstance(module, nn.LayerNorm):
        yield "layernorm_eps", [module.eps]
    elif isinstance(module, nn.Dropout):
        yield "dropout", [module.p]
    elif isinstance(module, DropPath):
        yield "drop_path", [module.drop_prob or 0.0]
    elif isinstance(module, AttentionProjections):
        yield "dropout", [module.dropout]
    elif isinstance(module, Attention):
        yield "mha_heads_dropout", [module.num_heads, module.attn_drop.p]


def official_module(own: str) -> str:
    """The official name of a module, by the towers' own rules for the names of its weights."""
    for prefix, rule in (("vit_model.visual.", clip_key), ("vit_model.", swin_key)):
        if own.startswith(prefix):
            own = prefix + rule(own.removeprefix(prefix) + ".").removesuffix(".")
    # timm splits in two what officially is one module called twice.
    return re.sub(r"\.(drop_path|mlp\.drop)[12]$", r".\1", own)
