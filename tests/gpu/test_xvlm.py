"""Every script of X-VLM on a GPU in half precision: its steps train, and make the host wait for the guard alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu.marks import ON_GPU
from tests.gpu.xvlm_runs import VARIANTS, trains_without_waits
from tests.unit.xvlm.task_runs import SCRIPTS, write_data

pytestmark = ON_GPU


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_batches_of_a_run(script: str, folder: Path, tmp_path: Path) -> None:
    trains_without_waits(script, folder, tmp_path, "cuda")


@pytest.mark.parametrize("variant", VARIANTS)
def test_those_of_epic(variant: str, folder: Path, tmp_path: Path) -> None:
    trains_without_waits("Pretrain", folder, tmp_path, "cuda", variant)
