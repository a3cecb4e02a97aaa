"""Scenes as JSON lines and lists of every task, a small language model, and the runs that several tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.launch.warm_launcher import lent
from tests.launch.xvlm.launcher import VOCAB, Run, XvlmLauncher
from tests.launch.yaml_scenes import write_scenes
from vlp.data.jsonl.convert import Options, make_files
from vlp.data.jsonl.plans import WITHOUT_REFCOCO


@pytest.fixture(scope="session")
def xvlm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XvlmLauncher]:
    data, logs = tmp_path_factory.mktemp("xvlm"), tmp_path_factory.mktemp("runs")
    write_scenes(data, VOCAB, ("coco", "coco_karpathy", "vqa", "nlvr2", "refcoco+"), layouts=("vg", "coco_objs"))
    options = Options(image_root=str(data), shards=2)
    for name, root in (("coco", data / "raw"), ("vg_regions", data / "tasks" / "vg")):
        make_files(name, root, data / "lines", options)
    for name in WITHOUT_REFCOCO:
        root = data / "tasks" / ("coco_objs" if name.startswith("coco") else "vg")
        make_files(name, root, data / "lines", replace(options, exclude=[str(data / "tasks" / "refcoco+")]))
    yield from lent(XvlmLauncher(data, logs))


@pytest.fixture(scope="session")
def vanilla(xvlm: XvlmLauncher) -> Run:
    return xvlm.vanilla
