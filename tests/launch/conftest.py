"""A small data set with a language model, made once, and the runs that several tests look at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from epic_common.fit_lm import FitSettings, fit_language_model
from tests.launch.launcher import Launcher, Result
from tests.unit.epic.conftest import one_thread
from vlp.data.arrow import make_arrow
from vlp.data.scenes.coco_layout import Request, write_coco

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    data = tmp_path_factory.mktemp("data")
    write_coco(data / "raw", Request(train=32, val=8, test=8, captions=2, image_size=80, seed=0))
    make_arrow("coco", data / "raw", data / "arrow")
    language_model(data)
    logs = tmp_path_factory.mktemp("runs")
    launcher = Launcher(data, logs)
    yield launcher
    launcher.close()
    shutil.rmtree(logs)  # hundreds of megabytes of checkpoints


def language_model(data: Path) -> None:
    entries = json.loads((data / "raw" / "karpathy" / "dataset_coco.json").read_text())["images"]
    captions = [sentence["raw"] for entry in entries for sentence in entry["sentences"]]
    (data / "captions.txt").write_text("\n".join(captions))
    sizes = FitSettings(steps=3, batch_size=8, layers=1, width=128, vocab_size=300)
    fit_language_model(data / "captions.txt", data / "roberta-tiny", sizes)


@pytest.fixture(scope="session")
def vanilla(launcher: Launcher) -> Result:
    """Three steps of vanilla pre-training and one validation."""
    return launcher.pretrain("val_check_interval=3")


@pytest.fixture(scope="session")
def epic(launcher: Launcher, vanilla: Result) -> Result:
    """The same with EPIC, the vanilla run as its teacher."""
    return launcher.pretrain(
        "val_check_interval=3", "epic", f"teacher_path={vanilla.checkpoint}", "epic.mask_ratio=0.5"
    )
