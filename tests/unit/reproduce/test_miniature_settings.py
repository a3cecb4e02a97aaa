"""miniature.yaml: read strictly, by file and key."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from reproduce.miniature.settings import SETTINGS, VARIANTS, changed, digest, read_settings
from vlp.baseline import REGISTRY
from vlp.config.schema import ConfigError
from vlp.yaml_dialect.yaml_file import read_yaml, write_yaml


@pytest.fixture
def values() -> dict[str, Any]:
    return copy.deepcopy(read_yaml(SETTINGS))


def written(values: dict[str, Any], folder: Path) -> Path:
    """A settings file of these values."""
    path = folder / "mine.yaml"
    write_yaml(path, values)
    return path


def test_our_own_has_every_baseline_and_five_seeds_apart_from_the_teacher_s() -> None:
    settings = read_settings()
    assert {*settings.baselines} == {*REGISTRY}
    assert len(settings.seeds) >= 5
    assert not {settings.teacher_seed, settings.calibration_seed} & {*settings.seeds}
    assert settings.points == 5
    assert settings.scenes.tested == 256
    assert settings.language_model.grammar_seed != 0


def test_epic_is_the_paper_s_untuned() -> None:
    assert VARIANTS["epic"] == {"enabled": True}
    for block in read_settings().baselines.values():
        assert not [item for item in block.pretraining if item.startswith("epic.")]


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (["pionts"], r"unknown config key 'pionts'.*points"),
        (["scenes", "levl"], r"unknown config key 'scenes\.levl'"),
        (["baselines", "meter", "stps"], r"baselines\.meter: unknown config key 'stps'.*steps"),
        (["baselines", "meter", "fine_tuning", "rat"], r"baselines\.meter: unknown config key 'fine_tuning\.rat'"),
        (["baselines", "metre"], r"baselines: 'metre' is no baseline.*meter"),
    ],
)
def test_an_unknown_key_is_refused_by_file_and_key(
    where: list[str], says: str, values: dict[str, Any], tmp_path: Path
) -> None:
    block = values
    for name in where[:-1]:
        block = block[name]
    block[where[-1]] = {} if where[-1] == "metre" else 1
    path = written(values, tmp_path)
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))}: {says}"):
        read_settings(path)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("points", 0, "points=0"),
        ("seeds", [1], r"seeds=\[1\]"),
        ("teacher_seed", 1, "must all differ"),
        ("scenes", {"level": "harder"}, "scenes"),
    ],
)
def test_a_wrong_value_is_refused(key: str, value: Any, says: str, values: dict[str, Any], tmp_path: Path) -> None:
    path = written({**values, key: value}, tmp_path)
    with pytest.raises(ConfigError, match=says):
        read_settings(path)


def test_what_calibrate_tries_must_be_settings(values: dict[str, Any], tmp_path: Path) -> None:
    values["baselines"]["meter"]["tried"] = [{"step": 3}]
    with pytest.raises(ConfigError, match=r"baselines\.meter\.tried: unknown config key 'step'.*steps"):
        read_settings(written(values, tmp_path))
    block = read_settings().baseline("meter")
    assert changed(block, {"steps": 77}, "here").steps == 77
    assert changed(block, {}, "here") == block


def test_a_baseline_without_settings_is_named(values: dict[str, Any], tmp_path: Path) -> None:
    values["baselines"] = {"meter": values["baselines"]["meter"]}
    with pytest.raises(ConfigError, match="baselines has no 'vilt'"):
        read_settings(written(values, tmp_path)).baseline("vilt")


def test_the_hash_hangs_on_values_and_not_on_their_order() -> None:
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert digest({"a": 1, "b": [2, 3]}) != digest({"a": 1, "b": [3, 2]})
