"""The question of `make test-official` for Eq. 8's golden scores, put to METER and ViLT with the official verbs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.official import checks, probe
from tests.parity import golden
from tests.parity.fixture import FIXTURES, Fixture
from tests.parity.replays import meter_models, vilt_models
from tests.unit.patches_official.fakes import ViltOfVerbs

SIZES: list[tuple[str, Any]] = [("golden_tiny_pretrain", ()), ("golden_pretrain", pytest.mark.slow)]
SWIN = ("meter", "golden_tiny_pretrain_swin", "clean.saliency_score_mean_query")  # it has no first token to ask with


def _vilt(arch: dict[str, Any], config: dict[str, Any]) -> ViltOfVerbs:
    made = vilt_models.model_of(arch, config)
    return ViltOfVerbs(made.config, made.transformer)


MODELS = {"meter": meter_models.model_of, "vilt": _vilt}


@pytest.mark.parametrize(
    ("baseline", "name", "array"),
    [SWIN, *(pytest.param(base, name, checks.NAMES[base][2], marks=mark) for base in MODELS for name, mark in SIZES)],
)
def test_the_support_files_find_the_golden_scores(baseline: str, name: str, array: str) -> None:
    fixture = Fixture(FIXTURES / baseline / f"{name}.json")
    request = checks.request_of(fixture, baseline)
    model: Any = MODELS[baseline](fixture.arch, fixture.config)
    probe.fill(model, golden, request)
    config = {**model.config, "vit": "swin_base" if array == SWIN[2] else ""}  # the fixtures leave it out
    found = probe.scores(baseline, model, config, request)
    compared = fixture.compare(array, found.numpy())
    assert compared.passed, compared
