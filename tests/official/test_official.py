"""Checkouts of official code at hand, patched: `EPIC_OFFICIAL_METER=CHECKOUT make test-official`.

Likewise _VILT, _ALBEF, _XVLM. EPIC_OFFICIAL_PYTHON is the Python of the checkouts' environment, by default this one;
EPIC_OFFICIAL_SHIMS=1 applies the shims besides. Checkouts are copied, never changed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from patches.official.checkout import states
from patches.official.command import main
from patches.official.source import read_patch
from tests.official import checks
from tests.official.checkout import Official, apply, copy
from tests.official.launches import LAUNCHES

pytestmark = pytest.mark.official
SHIMS = ["--shims"] * bool(os.environ.get("EPIC_OFFICIAL_SHIMS"))
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="the official launchers need a GPU, and there is none")


@pytest.fixture(scope="module", params=LAUNCHES)
def baseline(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def checkout(baseline: str) -> Path:
    variable = f"EPIC_OFFICIAL_{baseline.upper()}"
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: the root of a checkout of {read_patch(baseline).repository}")
    return Path(os.environ[variable]).resolve()


@pytest.fixture(scope="module")
def official(baseline: str, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Official:
    python = os.environ.get("EPIC_OFFICIAL_PYTHON", sys.executable)
    folder = tmp_path_factory.mktemp(baseline)
    return Official(baseline, checkout, folder, python, patch=lambda name, root: apply(name, root, *SHIMS))


def test_apply_and_remove_give_back_the_bytes(baseline: str, checkout: Path, tmp_path: Path) -> None:
    root, patch = copy(checkout, tmp_path / "checkout"), read_patch(baseline, shims=bool(SHIMS))
    before = {file.path: (root / file.path).read_bytes() for file in patch.files}
    assert states(root, baseline, patch) == [f"{path}: official" for path in before]
    apply(baseline, root, *SHIMS)
    assert states(root, baseline, patch) == [f"{path}: patched" for path in before]
    assert main(["remove", baseline, str(root)]) == 0
    assert {path: (root / path).read_bytes() for path in before} == before
    assert not (root / "epic_common").exists()


@GPU
def test_off_is_the_unpatched_run_to_the_bit(official: Official) -> None:
    checks.off_is_the_unpatched_run_to_the_bit(official)


@GPU
def test_saliency_is_that_of_the_fixture(official: Official) -> None:
    checks.saliency_is_that_of_the_fixture(official)


@GPU
def test_epic_trains_and_resumes(official: Official) -> None:
    checks.epic_trains_and_resumes(official)
