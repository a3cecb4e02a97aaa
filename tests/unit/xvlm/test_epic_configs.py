"""X-VLM's YAML files with EPIC: a vanilla one of the same data, and the variant of the paper that the name says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epic_common.config import PRESETS, RegionEpicConfig
from vlp.config.schema import ConfigError, check, defaults
from vlp.yaml_dialect.command_line import merged
from vlp.yaml_dialect.yaml_file import read_json, read_yaml
from xvlm.config import COMMANDS

CONFIGS = Path(__file__).parents[3] / "xvlm/configs"
EPIC = sorted(CONFIGS.glob("**/*epic*.yaml"), key=str)
SCHEMA = COMMANDS["Pretrain"].schema


def variant_of(path: Path) -> str:
    """``Pretrain_XVLM_base_4m_epic_lm_cond`` -> ``lm_cond``."""
    return path.stem.partition("epic_")[2] or "epic"


def test_there_is_one_of_every_variant() -> None:
    names = {path.stem for path in EPIC if path.parent == CONFIGS}
    assert names == {"Pretrain_XVLM_base_16m_epic"} | {
        "Pretrain_XVLM_base_4m_epic" if preset == "epic" else f"Pretrain_XVLM_base_4m_epic_{preset}"
        for preset in set(PRESETS) - {"vanilla"}
    }


@pytest.mark.parametrize("path", EPIC, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_it_is_the_vanilla_file_and_the_variant(path: Path) -> None:
    values = read_yaml(path)
    vanilla = read_yaml(path.with_name(f"{path.stem.partition('_epic')[0]}.yaml"))
    assert {key: value for key, value in values.items() if key not in ("epic", "teacher_path")} == vanilla
    settings = RegionEpicConfig.from_dict(values["epic"])
    assert settings == RegionEpicConfig.from_dict(PRESETS[variant_of(path)])
    assert ("teacher_path" in values) == settings.needs_teacher
    config: dict[str, Any] = merged(defaults(SCHEMA), values)
    for name in ("vision_config", "text_config"):
        config[name] = read_json(CONFIGS.parent / values[name])
    check(SCHEMA, merged(defaults(SCHEMA), config))


def test_regions_are_a_key_of_its_own() -> None:
    config = defaults(SCHEMA)
    assert config["epic"]["on_regions"] is False
    check(SCHEMA, merged(config, {"epic": {"on_regions": True}}))
    with pytest.raises(ConfigError, match=r"epic\.on_regions is 3; it must be"):
        check(SCHEMA, merged(config, {"epic": {"on_regions": 3}}))
    with pytest.raises(ConfigError, match=r"epic\.on_region is not a field"):
        check(SCHEMA, merged(config, {"epic": {"on_region": True}}))
