"""README followed word by word, on scenes: raw data, check, pre-training without and with EPIC, zero-shot retrieval."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import write_tasks
from tests.readme import ROOT, TITLES, as_trial, commands, filled, language_model, launchers, trial

pytestmark = pytest.mark.slow

LAYOUTS = ("vg", "sbu", "gcc", "f30k", "coco_objs")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The downloads, drawn."""
    folder = tmp_path_factory.mktemp("readme")
    write_coco(folder / "drawn", Request(train=150, val=16, test=16, captions=2, image_size=64, seed=0))
    write_tasks(folder / "drawn", folder / "RAW", LAYOUTS)
    (folder / "drawn").rename(folder / "RAW" / "coco")
    objects = folder / "RAW" / "coco_objs" / "annotations"
    objects.rename(folder / "RAW" / "coco" / "annotations")
    return folder / "RAW"


def checkout(folder: Path, baseline: str) -> Path:
    """The baseline's folder, in which runs leave their files, beside nothing but what the repository has."""
    (folder / baseline).mkdir()
    for path in (ROOT / baseline).iterdir():
        if path.name not in ("data", "output", "result"):
            (folder / baseline / path.name).symlink_to(path)
    return folder / baseline


@pytest.mark.parametrize("baseline", TITLES)
def test_readme_leads_from_raw_data_to_scores(baseline: str, raw: Path, tmp_path: Path) -> None:
    places = {
        "RAW": raw,
        "ARROW_ROOT": tmp_path / "arrow",
        "CAPTIONS.txt": tmp_path / "captions",
        "LM": tmp_path / "lm",
    }
    made_small, own = trial(baseline), checkout(tmp_path, baseline)
    steps = [(tmp_path, each) for each in (*commands("Data", baseline), *language_model(baseline))]
    steps += [(own, as_trial(each, made_small)) for each in launchers(baseline)]
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": search, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for folder, step in steps:
        command = filled(step, {name: str(path) for name, path in places.items()})
        done = subprocess.run(
            ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    newest = max(own.rglob("results.json"), key=lambda path: path.stat().st_mtime_ns)
    metrics = json.loads(newest.read_text())["metrics"]
    assert any("r1" in name for name in metrics)
