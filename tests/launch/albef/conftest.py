"""Scenes as JSON lists of every task, a small language model, and the runs that several tests look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.launch.albef.launcher import VOCAB, AlbefLauncher, Run
from tests.launch.warm_launcher import lent
from tests.launch.yaml_scenes import write_scenes


@pytest.fixture(scope="session")
def albef(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlbefLauncher]:
    data, logs = tmp_path_factory.mktemp("albef"), tmp_path_factory.mktemp("runs")
    write_scenes(data, VOCAB, ("coco", "vqa", "nlvr2", "snli", "refcoco+"))
    yield from lent(AlbefLauncher(data, logs))


@pytest.fixture(scope="session")
def vanilla(albef: AlbefLauncher) -> Run:
    return albef.vanilla


@pytest.fixture(scope="session")
def epic(albef: AlbefLauncher) -> Run:
    return albef.epic
