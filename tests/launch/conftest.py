"""A small data set with language models, made once, and the runs that several tests look at.

A test runs for every baseline; one that proves something of code that they share says so by SHARED_CODE or
OTHERS_SLOW.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from epic_common.language_models.fit import FitSettings, fit_language_model
from scenes.coco_layout import Request, write_coco
from tests.launch.launcher import Launcher, Result
from tests.unit.epic.conftest import one_thread
from vlp.baseline import get_baseline
from vlp.data.arrow.convert import make_arrow
from vlp.sacred_dialect.baseline import sacred_baselines

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in COCO's raw layout and as Arrow tables, and their captions."""
    data = tmp_path_factory.mktemp("data")
    write_coco(data / "raw", Request(train=32, val=8, test=8, captions=2, image_size=80, seed=0))
    make_arrow("coco", data / "raw", data / "arrow")
    entries = json.loads((data / "raw" / "karpathy" / "dataset_coco.json").read_text())["images"]
    captions = [sentence["raw"] for entry in entries for sentence in entry["sentences"]]
    (data / "captions.txt").write_text("\n".join(captions))
    return data


@pytest.fixture(scope="session")
def launchers(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Launcher]]:
    """The launcher of a baseline by its name, begun when it is first asked for."""
    logs, begun = tmp_path_factory.mktemp("runs"), list[Launcher]()

    @cache
    def fit(family: str) -> None:
        sizes = FitSettings(family=family, steps=3, batch_size=8, layers=1, width=128, vocab_size=300)
        fit_language_model(data / "captions.txt", data / f"{family}-tiny", sizes)

    @cache
    def launcher(name: str) -> Launcher:
        fit(get_baseline(name).text_family)
        (logs / name).mkdir()
        begun.append(Launcher(name, data, logs / name))
        return begun[-1]

    yield launcher
    for each in begun:
        each.close()


@pytest.fixture(scope="session", params=sacred_baselines())
def launcher(request: pytest.FixtureRequest, launchers: Callable[[str], Launcher]) -> Launcher:
    return launchers(request.param)


# pytest makes a fixture again whenever its parameter changes: what is to be made once belongs to the launcher.


@pytest.fixture(scope="session")
def vanilla(launcher: Launcher) -> Result:
    return launcher.vanilla


@pytest.fixture(scope="session")
def epic(launcher: Launcher) -> Result:
    return launcher.epic
