"""Whether f_L's sentences get a [SEP] is the baseline's to say, and a user's key wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epic_vlp.parts import parts_of, settings_of
from tests.unit.configs import resolve
from vlp.baseline import REGISTRY, get_baseline
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.yaml_dialect.command_line import configured

ROOT = Path(__file__).parents[3]
BASELINES = pytest.mark.parametrize("baseline", [get_baseline(name) for name in REGISTRY], ids=REGISTRY)
FILES = {"albef": "Pretrain_4M_epic.yaml", "xvlm": "Pretrain_XVLM_base_4m_epic.yaml"}


def official(baseline: Any, **epic: Any) -> dict[str, Any]:
    """The config of the official pre-training command with EPIC, as a run of it has it."""
    if isinstance(baseline, SacredBaseline):
        given = {"data_root": "data", "per_gpu_batchsize": 8, "epic": epic}
        config = resolve(baseline.experiment, [baseline.pretraining[0], "epic"], **given)
    else:
        file = ROOT / baseline.name / "configs" / FILES[baseline.name]
        items = [f"epic.{key}={value}" for key, value in epic.items()]
        config = configured(baseline.scripts["Pretrain"].command, ["--config", str(file), *items])
    baseline.extension.settle(baseline, config)
    return config


@BASELINES
def test_without_the_key_a_run_is_what_it_is_with_the_right_one(baseline: Any) -> None:
    lacks = baseline.name in ("albef", "xvlm")  # docs/official: [CLS] X
    config = official(baseline)
    assert config["epic"]["append_sep"] is lacks is not parts_of(baseline).text_ends_with_sep
    assert config == official(baseline, append_sep=lacks)
    assert settings_of(baseline, config).append_sep is lacks


@BASELINES
def test_a_users_key_wins_where_it_can(baseline: Any) -> None:
    assert official(baseline, append_sep=False)["epic"]["append_sep"] is False
    if parts_of(baseline).text_ends_with_sep:
        with pytest.raises(ValueError, match=r"epic\.append_sep=True is not possible"):
            official(baseline, append_sep=True)


@BASELINES
def test_what_reads_no_language_model_has_none(baseline: Any) -> None:
    assert official(baseline, masking="uniform", replacement="uniform")["epic"]["append_sep"] is False
    assert official(baseline, enabled=False)["epic"]["append_sep"] is None
