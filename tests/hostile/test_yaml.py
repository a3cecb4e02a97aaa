"""Wrong command lines and YAML files of ALBEF are answered at once: nothing heavy is imported, nothing begun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import rows_yaml
from tests.hostile.harness import Shell, keeps_its_promise, nothing_changes
from tests.hostile.table import Row, each
from tests.launch.launcher import ROOT


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the scripts are run in: YAML files, and a list."""
    place = tmp_path_factory.mktemp("yaml") / "place"
    place.mkdir()
    rows_yaml.write_config_files(place)
    return place


@pytest.fixture(scope="module")
def scripts(place: Path) -> Iterator[Shell]:
    shell = Shell(place, ["albef.config", "vlp.yaml_dialect.command_line"])
    yield shell
    shell.close()


def refused(row: Row, scripts: Shell, place: Path, *items: str) -> None:
    with nothing_changes(place):
        keeps_its_promise(row, scripts.run(str(ROOT / "albef/Pretrain.py"), "--config", *items))


@each(rows_yaml.PRETRAIN)
def test_wrong_items_and_flags(row: Row, scripts: Shell, place: Path) -> None:
    refused(row, scripts, place, "good.yaml", "--output_dir", "out", *row.items)


@each(rows_yaml.FILES)
def test_yaml_files(row: Row, scripts: Shell, place: Path) -> None:
    refused(row, scripts, place, *row.items, "--output_dir", "out")
