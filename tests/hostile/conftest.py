"""What the tests of the table share with those of the launchers, and a shell for the other commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.hostile.harness import Shell
from tests.launch.conftest import data, launchers, one_thread
from tests.launch.launcher import Launcher

__all__ = ["data", "launchers", "one_thread"]
MODULES = (
    "vlp.data.arrow.convert",
    "vlp.data.arrow.check",
    "vlp.checkpoint.convert",
    "epic_common.language_models.fit",
)


@pytest.fixture(scope="session")
def launcher(launchers: Callable[[str], Launcher]) -> Launcher:
    """METER's: what these tests meet belongs to both baselines."""
    return launchers("meter")


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Runs the modules that are commands."""
    folder = tmp_path_factory.mktemp("shell") / "here"
    folder.mkdir()
    shell = Shell(folder, MODULES)
    yield shell
    shell.close()
