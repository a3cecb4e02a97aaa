"""Weights files, tokenizers and tables through the real launcher."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.hostile.cases_files import LOGS, TABLE_CASES, TOKENIZER_CASES, WEIGHTS_CASES
from tests.hostile.harness import keeps_its_promise, nothing_changes, pretrained
from tests.hostile.table import Case, each_case
from tests.launch.launcher import Launcher


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Of the inputs; a run's folder is to be beside it."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def keeps(case: Case, launcher: Launcher, place: Path) -> None:
    items = [item.replace("{place}", str(place)) for item in case.row.items]
    logs = place.parent / LOGS
    with nothing_changes(place):
        keeps_its_promise(case.row, pretrained(launcher, logs, *items))
    assert logs.exists() == (case.written == LOGS)


@each_case(WEIGHTS_CASES)
def test_weights_files(case: Case, launcher: Launcher, place: Path) -> None:
    case.make(place)
    keeps(case, launcher, place)


@each_case(TOKENIZER_CASES)
def test_tokenizers(case: Case, launcher: Launcher, place: Path) -> None:
    shutil.copytree(launcher.language_model, place / "model")
    case.make(place)
    keeps(case, launcher, place)


@each_case(TABLE_CASES)
def test_tables(case: Case, launcher: Launcher, place: Path) -> None:
    shutil.copytree(launcher.data / "arrow", place / "arrow")
    case.make(place)
    keeps(case, launcher, place)
