"""Pre-training on two streams, broken after every step and gone on with, against the run that nothing breaks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.launch.test_resume import tensors
from tests.unit.training.test_exact_resume import timeless
from tests.unit.xvlm.small_runs import STEPS, config_of, trained, write_data
from vlp.checkpoint.weights import read_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


def run(folder: Path, output: Path, cuts: Sequence[int], **changes: Any) -> Path:
    """A run to its end that ``max_steps`` has ended at each of ``cuts`` before."""
    for end in (*cuts, None):
        trained(config_of(folder, max_steps=end, resume_from="auto", output_dir=str(output), **changes))
    return output


def lines(output: Path) -> list[dict[str, Any]]:
    """What was logged, without the means of a part of an epoch, which a cut run logs."""
    found = [json.loads(line) for line in timeless((output / "metrics.jsonl").read_text(encoding="utf-8"))]
    return [line for line in found if (line["step"] + 1) % STEPS == 0 or not any(n.endswith("_epoch") for n in line)]


def same_end(broken: Path, whole: Path) -> None:
    ours, theirs = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (broken, whole))
    assert ours["global_step"] == theirs["global_step"] == 2 * STEPS
    found, expected = tensors(ours), tensors(theirs)
    assert found.keys() == expected.keys() and len(found) > 200
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
    for part in ("lr_schedulers", "loops", "PretrainData"):
        assert str(ours[part]) == str(theirs[part]), part
    assert lines(broken) == lines(whole)
    assert (broken / "log.txt").read_text() == (whole / "log.txt").read_text()
    files = sorted(path.name for path in whole.glob("*.th"))
    assert files == sorted(path.name for path in broken.glob("*.th")) and len(files) == 5
    for name in files:
        ours, theirs = tensors(read_checkpoint(broken / name)), tensors(read_checkpoint(whole / name))
        assert all(torch.equal(ours[key], value) for key, value in theirs.items()), name


def test_a_run_that_is_cut_after_every_step(folder: Path, tmp_path: Path) -> None:
    """Also between the regions and the images of an iteration."""
    whole = run(folder, tmp_path / "whole", ())
    same_end(run(folder, tmp_path / "broken", range(1, 2 * STEPS)), whole)


def test_loaders_with_workers_go_on_where_training_stood(folder: Path, tmp_path: Path) -> None:
    """What workers have read ahead is read again, whatever their number was."""
    whole = run(folder, tmp_path / "whole", (), num_workers=2)
    same_end(run(folder, tmp_path / "broken", (2, 7, 11), num_workers=2), whole)
