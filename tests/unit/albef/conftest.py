"""Lists for every script and a teacher's checkpoint, made once for each module that builds real runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.albef.small_runs import saved_teacher
from tests.unit.albef.task_runs import write_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    saved_teacher(folder)
    return folder
