"""Wrong command lines of both baselines are answered at once: nothing heavy has been imported, nothing was begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.hostile import rows_configuration, rows_files
from tests.hostile.harness import Shell, keeps_its_promise, nothing_changes
from tests.hostile.table import Row, each
from tests.launch.launcher import ROOT
from vlp.baseline import get_baseline
from vlp.sacred_dialect.baseline import SacredBaseline

BASELINES = ("meter", "vilt")
Commands = Callable[[str], Shell]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the commands are run in: config files, and a folder without tables."""
    place = tmp_path_factory.mktemp("hostile") / "place"
    (place / "arrow").mkdir(parents=True)
    rows_files.write_config_files(place)
    return place


@pytest.fixture(scope="module")
def commands(place: Path) -> Iterator[Commands]:
    begun: list[Shell] = []

    @cache
    def of(name: str) -> Shell:
        begun.append(Shell(place, [f"{name}.config", "vlp.sacred_dialect.command_line"]))
        return begun[-1]

    yield of
    for each_one in begun:
        each_one.close()


def answered(row: Row, name: str, items: list[str], commands: Commands, place: Path) -> None:
    with nothing_changes(place):
        keeps_its_promise(row, commands(name).run(str(ROOT / name / "run.py"), *items))


def refused(row: Row, name: str, commands: Commands, place: Path) -> None:
    """Behind what a run needs."""
    baseline = get_baseline(name)
    assert isinstance(baseline, SacredBaseline)
    given = ["data_root=arrow", "per_gpu_batchsize=8", "log_dir=logs"]
    answered(row, name, ["with", baseline.pretraining[0], *given, *row.items], commands, place)


@pytest.mark.parametrize("name", BASELINES)
@each(rows_configuration.SHARED)
def test_wrong_items(row: Row, name: str, commands: Commands, place: Path) -> None:
    refused(row, name, commands, place)


@each(rows_files.METER)
def test_wrong_items_of_meter(row: Row, commands: Commands, place: Path) -> None:
    refused(row, "meter", commands, place)


@each(rows_files.VILT)
def test_wrong_items_of_vilt(row: Row, commands: Commands, place: Path) -> None:
    refused(row, "vilt", commands, place)


@each(rows_files.FILES)
def test_config_files(row: Row, commands: Commands, place: Path) -> None:
    refused(row, "meter", commands, place)


@each(rows_files.USAGE)
def test_sacreds_own_usage(row: Row, commands: Commands, place: Path) -> None:
    answered(row, "meter", row.items, commands, place)
