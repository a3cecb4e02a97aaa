"""The saliency cache from the command line: built by its launcher, read by run.py, the numbers those of the teacher."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from scenes.coco_layout import Request, write_coco
from tests.launch.launcher import OTHERS_SLOW, SHARED_CODE, Launcher, Result
from vlp.data.arrow.convert import make_arrow

SCRIPT = "epic_saliency_cache.py"


@pytest.fixture(scope="module")
def cache(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of the vanilla run's saliency."""
    folder = tmp_path_factory.mktemp("cache") / "scores"
    run = build(launcher, folder)
    pairs = 2 * (32 + 8)  # training, and the test split, on which runs are validated
    assert f"saliency: {pairs}/{pairs} pairs" in run.output and "0:00 left" in run.output
    assert re.search(rf"saliency cache .*: {pairs} distinct pairs, \d+ tokens, 0\.0 MB; 0 pairs left out", run.output)
    return folder


def build(launcher: Launcher, folder: Path, *items: str, check: bool = True) -> Result:
    given = (*launcher.teacher, f"saliency_cache={folder}", *items)
    return launcher.run(*launcher.pretraining, *launcher.items(*given), script=SCRIPT, check=check)


@OTHERS_SLOW
def test_a_run_with_the_cache_has_the_numbers_of_one_with_the_teacher(
    launcher: Launcher, cache: Path, epic: Result
) -> None:
    run = launcher.pretrain("val_check_interval=3", "epic", f"saliency_cache={cache}", "epic.mask_ratio=0.5")
    assert re.search(rf"\[epic\] teacher read from {re.escape(str(cache))}, 80 pairs, sha256 \w{{64}}\n", run.output)
    assert "[load]" not in run.output  # no checkpoint at all
    assert len(run.metrics) == len(epic.metrics)
    for ours, theirs in zip(run.metrics, epic.metrics, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, nan_ok=True)
    assert len(run.values("epic/train/epic_itc")) == 3 and len(run.values("epic/val/epic_itc")) == 1


@SHARED_CODE
def test_a_resumed_run_may_change_to_the_cache_of_its_teacher_alone(
    launcher: Launcher, cache: Path, epic: Result, tmp_path: Path
) -> None:
    resume = ("epic", "epic.mask_ratio=0.5", "val_check_interval=3", "max_steps=4", f"resume_from={epic.checkpoint}")
    run = launcher.pretrain(*resume, f"saliency_cache={cache}")
    assert len(run.values("epic/train/epic_itc")) == 1
    shutil.copytree(cache, tmp_path / "other")
    manifest = tmp_path / "other" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["identity"]["teacher_sha256"] = "0ther"
    del content["sha256"]  # of the manifest as it was
    manifest.write_text(json.dumps(content))
    refused = launcher.pretrain(*resume, f"saliency_cache={tmp_path / 'other'}", check=False)
    assert refused.status == 1 and "its run had the teacher of sha256" in refused.output and "0ther" in refused.output


@SHARED_CODE
def test_two_processes_build_the_cache_of_one(launcher: Launcher, cache: Path, tmp_path: Path) -> None:
    """One on each of two nodes; the second says nothing."""
    given = launcher.items(*launcher.teacher, f"saliency_cache={tmp_path}")
    first, second = launcher.on_two_nodes(*launcher.pretraining, *given, script=SCRIPT)
    assert "saliency: 40/40 pairs" in first.output and "pairs" not in second.output
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in cache.iterdir())
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (cache / path.name).read_bytes()


@SHARED_CODE
def test_what_does_not_fit_ends_before_the_run_begins(launcher: Launcher, cache: Path) -> None:
    run = launcher.pretrain("epic", f"saliency_cache={cache}", "clip_randaug", check=False)
    assert run.status == 1 and "Traceback" not in run.output and not run.log_dir.exists()
    last = run.output.rstrip().splitlines()[-1]
    assert last.startswith("error: saliency_cache: train_transform_keys has 'clip_randaug', another view")
    run = build(launcher, cache, "epic.saliency_layer=-1", check=False)
    assert run.status == 1 and "epic.saliency_layer is -2 in the cache and -1 in this run" in run.output


@SHARED_CODE
def test_data_that_the_cache_does_not_have_end_the_run_in_one_line(
    launcher: Launcher, cache: Path, tmp_path: Path
) -> None:
    """The tables of other images with the same captions: stale, not wrong."""
    write_coco(tmp_path / "raw", Request(train=32, val=8, test=8, captions=2, image_size=72, seed=0))
    make_arrow("coco", tmp_path / "raw", tmp_path / "arrow")
    given = ("epic", f"saliency_cache={cache}", f"data_root={tmp_path / 'arrow'}", "max_steps=1")
    run = launcher.pretrain(*given, check=False)
    assert run.status == 1 and "Traceback" not in run.output
    last = run.output.rstrip().splitlines()[-1]
    assert last.startswith(
        f"error: saliency_cache {cache} has no scores for {tmp_path / 'arrow'}/coco_caption_karpathy_"
    )
    assert "build it again: python epic_saliency_cache.py with" in last
