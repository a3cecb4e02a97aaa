"""Scenes as JSON lines and lists of every task, a small language model, and the runs that several tests look at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from epic_common.language_models.fit import FitSettings, fit_language_model
from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import write_tasks
from tests.launch.xvlm.launcher import VOCAB, Run, XvlmLauncher
from vlp.data.json.convert import convert
from vlp.data.jsonl.convert import Options, make_files

TASKS = ("vqa", "nlvr2", "refcoco+")


@pytest.fixture(scope="session")
def xvlm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XvlmLauncher]:
    data, logs = tmp_path_factory.mktemp("xvlm"), tmp_path_factory.mktemp("runs")
    write_coco(data / "raw", Request(train=32, val=8, test=8, captions=2, image_size=80, seed=0))
    write_tasks(data / "raw", data / "tasks", (*TASKS, "vg"))
    coco = [(name, data / "raw") for name in ("coco", "coco_karpathy")]
    for name, root in (*coco, *((task, data / "tasks" / task) for task in TASKS)):
        convert(name, root, data / "lists", quiet=True)
    for name, root in (("coco", data / "raw"), ("vg_regions", data / "tasks" / "vg")):
        make_files(name, root, data / "lines", Options(image_root=str(data), shards=2))
    captions = [row["caption"] for row in json.loads((data / "lists" / "coco.json").read_text())]
    (data / "captions.txt").write_text("\n".join(captions))
    sizes = FitSettings(family="bert", steps=3, batch_size=8, layers=1, width=64, vocab_size=VOCAB)
    fit_language_model(data / "captions.txt", data / "bert-tiny", sizes)
    launcher = XvlmLauncher(data, logs)
    yield launcher
    launcher.close()
    shutil.rmtree(logs)


@pytest.fixture(scope="session")
def vanilla(xvlm: XvlmLauncher) -> Run:
    return xvlm.vanilla
