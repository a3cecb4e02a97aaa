"""EpicConfig: the paper's defaults, refusals that name the field, and the variants of Tables 4 and 5."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from epic_common.config import PAPER_NAMES, PRESETS, WITHOUT_TEACHER, EpicConfig, RegionEpicConfig


def test_the_defaults_are_the_papers_values_switched_off() -> None:
    config = EpicConfig()
    assert (config.enabled, config.mask_ratio, config.itc_weight) == (False, 0.35, 8.0)
    assert (config.masking, config.replacement, config.generator_training) == ("saliency", "lm", "finetune")
    assert (config.saliency_layer, config.saliency_temperature, config.generator_weight) == (-2, 1.0, 1.0)


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        EpicConfig().mask_ratio = 0.5  # type: ignore[misc]


def test_to_dict_survives_json() -> None:
    config = EpicConfig(enabled=True, mask_ratio=0.5, masking="uniform")
    assert EpicConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_field_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"epic\.mask_ration .*nearest is epic\.mask_ratio"):
        EpicConfig.from_dict({"mask_ration": 0.3})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enabled", 1),
        ("enabled", "True"),
        ("mask_ratio", 1.01),
        ("mask_ratio", -0.01),
        ("mask_ratio", "0.35"),
        ("mask_ratio", True),
        ("mask_ratio", float("nan")),
        ("itc_weight", -1),
        ("itc_weight", float("inf")),
        ("saliency_temperature", 0.0),
        ("sampling_temperature", 0),
        ("saliency_layer", 1.5),
        ("sas_refresh_steps", -1),
        ("masking", "random"),
        ("replacement", "LM"),
        ("generator_training", "frozen"),
        ("itc_reduction", "mean"),
        ("itc_head", "mlp"),
        ("generator", None),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"epic\.{field} is .*must be"):
        EpicConfig.from_dict({field: value})


@pytest.mark.parametrize(
    "values",
    [
        {"image_conditioned": True, "replacement": "vlm"},
        {"image_conditioned": True, "replacement": "uniform"},
        {"image_conditioned": True, "generator_training": "fixed"},
        {"generator_training": "fixed", "replacement": "uniform"},
        {"generator_training": "trained", "replacement": "vlm"},
        {"generator": "roberta-base", "replacement": "uniform"},
        {"sas_refresh_steps": 10},
    ],
)
def test_contradictions_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"epic\.\w+=.* needs epic\.\w+="):
        EpicConfig.from_dict(values)


def test_whole_numbers_are_fine_where_a_float_is_wanted() -> None:
    assert EpicConfig.from_dict({"itc_weight": 4, "mask_ratio": 1}).itc_weight == 4


# docs/method.md §4: masking, replacement, generator training, image-conditioned; None = not looked at by the variant
VARIANTS = {
    "vanilla": ("vanilla", None, None, None, False),
    "itc_rand": ("ITC (rand.)", "uniform", "uniform", None, False),
    "itc_lm": ("ITC+LM", "uniform", "lm", "finetune", False),
    "epic": ("EPIC", "saliency", "lm", "finetune", False),
    "lm_fixed": ("LM (fixed)", "saliency", "lm", "fixed", False),
    "lm_trained": ("LM (trained)", "saliency", "lm", "trained", False),
    "lm_cond": ("LM (cond.)", "saliency", "lm", "finetune", True),
    "vlm_sas": ("VLM (SAS)", "saliency", "vlm", None, False),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_variants_are_those_of_the_papers_tables(name: str) -> None:
    config = EpicConfig.from_dict(PRESETS[name])
    printed, masking, replacement, training, conditioned = VARIANTS[name]
    assert PAPER_NAMES[name] == printed
    assert config.enabled == (name != "vanilla")
    assert masking in (None, config.masking)
    assert replacement in (None, config.replacement)
    assert training in (None, config.generator_training)
    assert config.image_conditioned == conditioned
    assert config.trains_generator == (training == "finetune" or name == "vanilla")
    assert config.mask_ratio == 0.35


def test_no_variant_is_missing_or_made_up() -> None:
    assert set(PRESETS) == set(PAPER_NAMES) == set(VARIANTS)


def test_who_needs_a_teacher() -> None:
    needing = {name for name, values in PRESETS.items() if EpicConfig.from_dict(values).needs_teacher}
    assert needing == {"epic", "lm_fixed", "lm_trained", "lm_cond", "vlm_sas"}
    assert EpicConfig(enabled=True, masking="uniform", replacement="vlm").needs_teacher
    assert not EpicConfig(enabled=True, teacher="momentum").needs_teacher


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masking": "uniform"}, r"epic\.teacher='momentum' needs epic\.masking='saliency'"),
        ({"masking": "surprise"}, r"epic\.teacher='momentum' needs epic\.masking='saliency'"),
        ({"replacement": "vlm"}, r"epic\.teacher='momentum' needs epic\.replacement='lm' or 'uniform'"),
    ],
)
def test_the_momentum_teacher_gives_scores_and_no_snapshot(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpicConfig.from_dict({"teacher": "momentum", **changes})


@pytest.mark.parametrize("name", WITHOUT_TEACHER)
def test_saliency_without_a_teacher_is_apart_from_the_papers_variants(name: str) -> None:
    config = EpicConfig.from_dict(WITHOUT_TEACHER[name])
    assert name not in PRESETS and config.enabled and not config.needs_teacher
    own = "teacher" if name == "momentum" else "masking"
    papers = EpicConfig(enabled=True).to_dict()
    assert {key for key, value in config.to_dict().items() if value != papers[key]} == {own}
    assert getattr(config, own) == name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masking": "surprise", "replacement": "uniform"}, r"epic\.masking='surprise' needs epic\.replacement='lm'"),
        ({"masking": "surprise", "replacement": "vlm"}, r"epic\.masking='surprise' needs epic\.replacement='lm'"),
        ({"masking": "surprise", "image_conditioned": True}, r"'surprise' needs epic\.image_conditioned=False"),
        ({"surprise_passes": 4}, r"epic\.surprise_passes=4 needs epic\.masking='surprise'"),
        ({"masking": "surprise", "surprise_passes": 1}, r"epic\.surprise_passes is 1"),
        ({"teacher_decay": 0.9}, r"epic\.teacher_decay=0\.9 needs epic\.teacher='momentum'"),
        ({"teacher": "momentum", "teacher_decay": 1.5}, r"epic\.teacher_decay is 1\.5"),
    ],
)
def test_what_masks_without_a_teacher_has_what_it_needs(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpicConfig.from_dict(settings)


def test_a_config_of_before_the_momentum_teacher_means_the_checkpoint() -> None:
    new = ("teacher", "teacher_decay", "surprise_passes")
    saved = {name: value for name, value in EpicConfig(enabled=True).to_dict().items() if name not in new}
    assert EpicConfig.from_dict(saved) == EpicConfig(enabled=True)


def test_a_baseline_without_the_part_refuses() -> None:
    with pytest.raises(ValueError, match=r"epic\.image_conditioned=True is not possible with ViLT"):
        EpicConfig(image_conditioned=True).for_baseline("ViLT", image_encoder=False, text_ends_with_sep=True)
    with pytest.raises(ValueError, match=r"epic\.append_sep=True is not possible with METER: its sentences end with"):
        EpicConfig(append_sep=True).for_baseline("METER", image_encoder=True, text_ends_with_sep=True)
    slow = EpicConfig(teacher="momentum", teacher_decay=0.9)
    slow.for_baseline("METER", image_encoder=True, text_ends_with_sep=True)
    albef: dict[str, Any] = {"image_encoder": True, "text_ends_with_sep": False, "momentum_model": True}
    EpicConfig(teacher="momentum").for_baseline("ALBEF", **albef)
    with pytest.raises(ValueError, match=r"epic\.teacher_decay=0\.9 is not possible with ALBEF: its own key momentum"):
        slow.for_baseline("ALBEF", **albef)
    both = EpicConfig(image_conditioned=True, append_sep=True)
    both.for_baseline("ALBEF", image_encoder=True, text_ends_with_sep=False)


def test_a_config_that_was_saved_with_a_field_of_x_vlm_alone_is_read() -> None:
    saved = {**EpicConfig(enabled=True).to_dict(), "on_regions": False}
    assert EpicConfig.from_dict(saved) == EpicConfig(enabled=True)
    with pytest.raises(ValueError, match=r"epic\.on_regions is not a field of EpicConfig; the nearest is epic\."):
        EpicConfig.from_dict({"on_regions": True})

    assert not RegionEpicConfig.from_dict(saved).on_regions
    assert RegionEpicConfig.from_dict({**saved, "on_regions": True}).on_regions
    with pytest.raises(ValueError, match=r"epic\.on_regions"):
        RegionEpicConfig.from_dict({"on_regions": "yes"})


def test_every_field_has_its_row_in_the_table_of_choices() -> None:
    table = (Path(__file__).parents[3] / "docs" / "choices.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| `")}
    for field in fields(RegionEpicConfig):
        default = json.dumps(field.default) if isinstance(field.default, str) else str(field.default)
        assert f"`epic.{field.name}`" in rows, field.name
        assert f"`{default}`" in rows[f"`epic.{field.name}`"].split("|")[2], field.name
    assert {name for name in rows if "epic." in name} == {f"`epic.{field.name}`" for field in fields(RegionEpicConfig)}
