"""`make test-official` itself, on stand-ins: launchers in processes of their own, as far as no official code is needed.

METER's and ViLT's need the official configuration: tests/launch/test_official_checks.py starts our launchers with them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from patches.tree import ROOT
from tests.official import checks
from tests.official.checkout import Official
from tests.parity.fixture import FIXTURES, Fixture
from tests.parity.replays import PLAIN, albef_models, xvlm_models
from tests.unit.patches_official.fusion_fakes import bert_folder
from tests.unit.patches_official.standins import patched, standin

pytestmark = pytest.mark.slow
CONFIGS = {"albef": "Pretrain.yaml", "xvlm": "Pretrain_XVLM_base_4m.yaml"}


@pytest.fixture(params=["albef", "xvlm"])
def official(request: pytest.FixtureRequest, tmp_path: Path) -> Official:
    baseline = request.param
    checkout = standin(baseline, tmp_path / "checkout")
    bert_folder(checkout / ("bert-base-uncased" if baseline == "albef" else "data/bert-base-uncased"))
    here = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return Official(baseline, checkout, tmp_path, environment=here, patch=patched)


def test_off_is_the_unpatched_run_to_the_bit_and_epic_trains(official: Official) -> None:
    checks.off_is_the_unpatched_run_to_the_bit(official)
    checks.epic_trains_and_resumes(official)


def test_a_difference_is_found(official: Official) -> None:
    launcher = official.patched / "Pretrain.py"
    launcher.write_text(launcher.read_text().replace("torch.manual_seed(args.seed", "torch.manual_seed(1 + args.seed"))
    with pytest.raises(AssertionError):
        checks.off_is_the_unpatched_run_to_the_bit(official)


def test_saliency_is_that_of_the_fixture(official: Official) -> None:
    """Of the small model that the fixture has official numbers for."""
    fixture = Fixture(FIXTURES / official.baseline / "golden_tiny_pretrain.json")
    if official.baseline == "albef":
        sizes: dict[str, Any] = albef_models.config_of(fixture, PLAIN)
    else:
        sizes = xvlm_models.config_of(fixture.arch, fixture.config, PLAIN)
    path = official.patched / "configs" / CONFIGS[official.baseline]
    yaml = YAML(typ="safe", pure=True)
    yaml.dump({**yaml.load(path), **json.loads(json.dumps(sizes))}, path)
    checks.saliency_is_that_of_the_fixture(official, "golden_tiny_pretrain")
