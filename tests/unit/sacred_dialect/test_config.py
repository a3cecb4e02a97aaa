"""What the configurations of METER and ViLT have in common: EPIC's named configs, the 16M setting, and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epic_common.config import PRESETS, WITHOUT_TEACHER, EpicConfig
from tests.unit.configs import resolve
from vlp.config.schema import ConfigError, check, defaults
from vlp.sacred_dialect.baseline import SacredBaseline, sacred_baselines

Allows = Callable[[Any], bool]


class Case(NamedTuple):
    baseline: SacredBaseline

    @property
    def pretraining(self) -> str:
        return self.baseline.pretraining[0]

    def resolved(self, *named: str, **updates: Any) -> dict[str, Any]:
        return resolve(self.baseline.experiment, named, **updates)


@pytest.fixture(params=sacred_baselines())
def case(request: pytest.FixtureRequest) -> Case:
    return Case(sacred_baselines()[request.param])


def test_the_16m_setting_adds_cc12m(case: Case) -> None:
    config = case.resolved(case.pretraining, "data_16m")
    assert config["datasets"] == ["coco", "vg", "sbu", "gcc", "cc12m"]


@pytest.mark.parametrize("name", [*PRESETS, *WITHOUT_TEACHER])
def test_every_variant_is_a_named_config(name: str, case: Case) -> None:
    named = [] if name == "vanilla" else ["epic" if name == "epic" else f"epic_{name}"]
    settings = {**PRESETS, **WITHOUT_TEACHER}[name]
    assert EpicConfig.from_dict(case.resolved(*named)["epic"]) == EpicConfig.from_dict(settings)


def test_one_field_of_epic_can_be_updated_alone(case: Case) -> None:
    epic = case.resolved("epic", epic={"mask_ratio": 0.5})["epic"]
    assert EpicConfig.from_dict(epic) == EpicConfig(enabled=True, mask_ratio=0.5)


GIVEN: dict[str, Any] = {"data_root": "arrow", "per_gpu_batchsize": 8}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_root": ""}, "data_root must be given"),
        ({"per_gpu_batchsize": 0}, "per_gpu_batchsize must be given"),
        ({"image_size": "abc"}, r"image_size='abc': expected a whole number, at least \d+"),
        ({"loss_names": {"vqa": 1}}, r"loss_names\.vqa needs vqa data, which datasets=\['coco', 'vg'"),
        ({"datasets": ["coco", "nlvr2"]}, r"loss_names\.itm needs caption data, which datasets=\['nlvr2'\] is not"),
        ({"loss_names": {"irtr": 1}}, "draw_false_text must be at least 1"),
        ({"loss_names": {"itm": 0, "mlm": 0}}, "every task is off"),
        ({"draw_false_image": 0}, "draw_false_image must be at least 1"),
        ({"get_recall_metric": True}, "get_recall_metric needs the retrieval task"),
        ({"eval_split": "train"}, "eval_split='train': expected 'test' or 'val'"),
        ({"num_gpus": [0, 0]}, r"num_gpus=\[0, 0\] names GPU 0 more than once"),
        ({"end_lr": 1.0}, "end_lr=1.0 must be below learning_rate"),
        ({"num_heads": 7}, "hidden_size=768 is not a multiple of num_heads=7"),
        ({"test_only": True}, "test_only=True needs load_path"),
        ({"image_only": True}, "image_only=True leaves out all captions"),
        ({"exp_name": "../mine"}, "exp_name='../mine' must be the name of a folder, without a slash"),
        (
            {"resume_anyway": "seed,[lerning_rate"},
            r"resume_anyway=\[lerning_rate: there is no such key; did you mean 'le",
        ),
        ({"resume_anyway": ["epic.mask"]}, r"resume_anyway=epic.mask: there is no such key; did you mean 'epic\.mask"),
        ({"epic": {"mask_ratio": "high"}}, r"epic\.mask_ratio is 'high'; it must be a valid number"),
        ({"epic": {"image_conditioned": True, "replacement": "vlm"}}, r"epic\.image_conditioned=True needs epic"),
    ],
)
def test_what_cannot_run_is_refused_by_its_key(changes: dict[str, Any], message: str, case: Case) -> None:
    with pytest.raises(ValueError, match=message):
        case.baseline.check(case.resolved(case.pretraining, **{**GIVEN, **changes}))


def test_switches_written_shorter_than_officially_are_refused(case: Case) -> None:
    config = case.resolved(case.pretraining, **GIVEN)
    with pytest.raises(ValueError, match=r"loss_names lacks itm.*: one task is switched by loss_names\.itm=1"):
        case.baseline.check({**config, "loss_names": {"mlm": 1}})


# Every key, and what may stand for it, in other words than the schema's.
def whole(low: int, high: float = math.inf) -> Allows:
    return lambda v: type(v) is int and low <= v <= high


def number(low: float, high: float = math.inf, above: bool = False, below: bool = False) -> Allows:
    def allows(v: Any) -> bool:
        if type(v) not in (int, float) or not math.isfinite(v):
            return False
        return (v > low if above else v >= low) and (v < high if below else v <= high)

    return allows


def among(*values: Any) -> Allows:
    return lambda v: type(v) in (int, str) and v in values


def text(least: int = 0) -> Allows:
    return lambda v: type(v) is str and least <= len(v) <= 4096 and v.isprintable()


def listed(allows: Allows) -> Allows:
    return lambda v: type(v) is list and len(v) > 0 and all(map(allows, v))


def either(*some: Allows) -> Allows:
    return lambda v: any(allows(v) for allows in some)


def switch(v: Any) -> bool:
    return type(v) is bool or (type(v) is int and v in (0, 1))


def nothing(v: Any) -> bool:
    return v is None


OFTEN: dict[str, Allows] = {
    **dict.fromkeys(("exp_name", "tokenizer", "log_dir"), text(1)),
    **dict.fromkeys(("data_root", "load_path", "teacher_path", "saliency_cache"), text()),
    **dict.fromkeys(
        ("image_only", "whole_word_masking", "get_recall_metric", "test_only", "gradient_checkpointing"), switch
    ),
    **dict.fromkeys(("num_heads", "num_layers"), whole(1)),
    **dict.fromkeys(("batch_size", "vqav2_label_size", "vocab_size"), whole(1, 10**9)),
    **dict.fromkeys(("max_epoch", "log_every_n_steps", "resolution_before"), whole(1)),
    **dict.fromkeys(("input_image_embed_size", "input_text_embed_size"), whole(1)),
    **dict.fromkeys(("per_gpu_batchsize", "save_every_n_steps"), whole(0)),
    **dict.fromkeys(("draw_false_image", "draw_false_text", "num_workers"), whole(0, 1024)),
    **dict.fromkeys(("weight_decay", "end_lr", "lr_mult_head", "lr_mult_cross_modal", "lr_mult"), number(0)),
    "learning_rate": number(0, above=True),
    "mlp_ratio": number(0, 1000, above=True),
    **dict.fromkeys(("shard_optimizer", "pack_text"), switch),
    "deterministic": either(switch, nothing),
    "matmul_precision": among("highest", "high", "medium"),
    "seed": whole(0, 2**32 - 1),
    "patch_size": whole(1, 1024),
    "max_text_len": whole(3, 65536),
    "hidden_size": whole(1, 65536),
    "num_top_layer": whole(1, 1000),
    "num_nodes": whole(1, 65536),
    "mlm_prob": number(0, 1, above=True),
    "drop_rate": number(0, 1, below=True),
    "optim_type": among("adamw", "adam", "sgd"),
    "decay_power": either(number(0), among("cosine")),
    "max_steps": either(whole(1), nothing),
    "warmup_steps": either(whole(0), number(0, 1)),
    "resume_from": either(text(1), nothing),
    "resume_anyway": either(text(), lambda v: v == [], listed(text(1))),
    "fast_dev_run": either(switch, whole(0)),
    "val_check_interval": either(whole(1), number(0, 1, above=True)),
    "num_gpus": either(whole(1, 1024), listed(whole(0))),
    "precision": among(16, 32, "16", "32", "bf16"),
    "eval_split": among("test", "val"),
    "zero_shot_protocol": among("pretrained", "coco_finetuned"),
    "compile": either(switch, text(1)),
    "logger": either(among("wandb"), nothing),
}
DATASETS = ("coco", "f30k", "vg", "gcc", "sbu", "cc12m", "vqa", "nlvr2")
VIEWS = tuple(view + suffix for view in ("clip", "imagenet", "vit") for suffix in ("", "_randaug"))
CLIPS = ("ViT-B/32", "ViT-B/16", "ViT-Tiny/16")
SWINS = tuple(f"swin_{size}_in22k" for size in ("base_patch4_window7_224", "base_patch4_window12_384"))
OWN: dict[str, dict[str, Allows]] = {
    "meter": {
        "datasets": listed(among(*DATASETS, "snli")),
        "train_transform_keys": listed(among(*VIEWS)),
        "val_transform_keys": listed(among(*VIEWS)),
        "image_size": whole(1, 4096),
        "reorder_attention": switch,
        "vit": among(*CLIPS, *SWINS, "swin_large_patch4_window12_384_in22k"),
    },
    "vilt": {
        "datasets": listed(among(*DATASETS)),
        "train_transform_keys": listed(among("pixelbert", "pixelbert_randaug")),
        "val_transform_keys": listed(among("pixelbert", "pixelbert_randaug")),
        "image_size": whole(32, 4096),
        "max_image_len": whole(-1),
        "vit": among("vit_base_patch32_384", "vit_tiny_patch16_64"),
    },
}
BLOCKS = {"loss_names", "epic", "init"}  # of keys of their own, tried by name elsewhere
WORDS = st.sampled_from(["", "a", "val", "bf16", "coco", "clip", "cosine", "adamw", "None", "ViT-B/32", "\0", "\ud800"])
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 16, 31, 32, 1024, 1025, 4096, 4097, 2**32, 10**20, -0.5, 0.0, 0.5, 1.0, 1.5])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NUMBERS | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=3,
)


def test_every_key_is_described_here(case: Case) -> None:
    described = {*OFTEN, *OWN[case.baseline.name], *BLOCKS}
    assert case.baseline.schema.model_fields.keys() <= described


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=VALUES)
def test_any_value_of_any_key_is_allowed_or_told_by_its_key(data: st.DataObject, value: Any, case: Case) -> None:
    name = data.draw(st.sampled_from(sorted(case.baseline.schema.model_fields)))
    try:
        check(case.baseline.schema, {**defaults(case.baseline.schema), **GIVEN, name: value})
        wrong = ""
    except ConfigError as error:
        wrong = str(error)
    allowed = {**OFTEN, **OWN[case.baseline.name]}.get(name)
    if allowed is not None:
        alone = wrong.startswith((f"{name}=", f"{name}.")) and ": expected " in wrong
        assert alone != allowed(value), (name, value, wrong)
    if wrong:
        assert name in wrong or "per_gpu_batchsize" in wrong or "datasets" in wrong
