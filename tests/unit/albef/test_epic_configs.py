"""ALBEF's YAML files with EPIC: a vanilla one of the same data, and the variant of the paper that the name says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from albef.config import COMMANDS
from epic_common.config import PRESETS, EpicConfig
from vlp.config.schema import check, defaults
from vlp.yaml_dialect.command_line import merged
from vlp.yaml_dialect.yaml_file import read_json, read_yaml

CONFIGS = Path(__file__).parents[3] / "albef/configs"
EPIC = sorted(CONFIGS.glob("**/*epic*.yaml"), key=str)


def variant_of(path: Path) -> str:
    """``Pretrain_4M_epic_lm_cond`` -> ``lm_cond``."""
    return path.stem.partition("epic_")[2] or "epic"


def test_there_is_one_of_every_variant() -> None:
    names = {path.stem for path in EPIC if path.parent == CONFIGS}
    assert names == {"Pretrain_16M_epic"} | {
        "Pretrain_4M_epic" if preset == "epic" else f"Pretrain_4M_epic_{preset}"
        for preset in set(PRESETS) - {"vanilla"}
    }


@pytest.mark.parametrize("path", EPIC, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_it_is_the_vanilla_file_and_the_variant(path: Path) -> None:
    values, schema = read_yaml(path), COMMANDS["Pretrain"].schema
    vanilla = read_yaml(path.with_name(f"{path.stem.partition('_epic')[0]}.yaml"))
    assert {key: value for key, value in values.items() if key not in ("epic", "teacher_path")} == vanilla
    settings = EpicConfig.from_dict(values["epic"])
    assert settings == EpicConfig.from_dict(PRESETS[variant_of(path)])
    assert ("teacher_path" in values) == settings.needs_teacher
    config: dict[str, Any] = merged(defaults(schema), values)
    config["bert_config"] = read_json(CONFIGS.parent / values["bert_config"])
    check(schema, config)
