"""``resume_from=auto``: the newest whole checkpoint, what it passes over, and when it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.test_trainer import CONFIG
from vlp.checkpoint.weights import WeightsError
from vlp.sacred_dialect.resume import resolve_resume
from vlp.sacred_dialect.settings import run_name
from vlp.training.resume import STATE
from vlp.training.run_log import last_logged_step

HALF = b"PK\x03\x04 half a file"


class Folder:
    """The versions of a run, made by hand."""

    def __init__(self, log_dir: Path) -> None:
        self.config: dict[str, Any] = {**CONFIG, "log_dir": str(log_dir), "resume_from": "auto"}
        self.path = log_dir / run_name(self.config)

    def add(self, version: int, name: str = "last.ckpt", content: int | bytes | dict[str, Any] = 0) -> Path:
        """A checkpoint: of a run that has done ``content`` steps, or of these bytes or these entries."""
        path = self.path / f"version_{version}" / "checkpoints" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            run = {key: kind() for key, kind in STATE.items()}
            torch.save({**run, "global_step": content} if isinstance(content, int) else content, path)
        return path

    def log(self, version: int, steps: int) -> None:
        lines = [json.dumps({"step": step}) for step in range(steps)]
        (self.path / f"version_{version}" / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 99999, "lo']))

    def found(self) -> Path | None:
        path = resolve_resume(self.config)
        return None if path is None else Path(path)


@pytest.fixture
def folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Folder:
    caplog.set_level("INFO")
    return Folder(tmp_path)


def test_without_a_checkpoint_a_new_run_starts(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    assert folder.found() is None and f"no last.ckpt in {folder.path}/version_*, a new run starts" in caplog.text
    (folder.path / "version_3" / "checkpoints").mkdir(parents=True)
    assert folder.found() is None


def test_the_last_checkpoint_of_the_newest_version_counts(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.add(2, content=500)
    folder.add(9, "epoch=0-step=600.ckpt", 600)
    newest = folder.add(10, content=30)
    folder.add(10, "epoch=0-step=40.ckpt", 40)
    assert folder.found() == newest
    assert not any(record.levelname == "WARNING" for record in caplog.records)


def test_a_broken_last_checkpoint_gives_way_to_the_best_beside_it(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.add(0, content=10)
    broken = folder.add(1, content=HALF)
    folder.add(1, "epoch=0-step=20.ckpt", 20)
    best = folder.add(1, "epoch=1-step=110.ckpt", 110)
    folder.log(1, 130)
    assert folder.found() == best
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2 and warnings[0].startswith(f"[resume] auto: passed over, {broken}: ")
    assert warnings[1] == ("[resume] auto: goes on from step 110; the log goes to step 130: 20 steps are made again")


@pytest.mark.parametrize("content", [b"", HALF, {"state_dict": {}}, {"global_step": 3}])
def test_older_versions_follow(
    content: bytes | dict[str, Any], folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    """Also after what is readable, but no checkpoint of a run."""
    folder.add(1, content=5)
    older = folder.add(2, content=20)
    folder.add(3, content=content)
    folder.add(3, "student.ckpt", {"state_dict": {}})
    folder.log(3, 30)
    assert folder.found() == older
    assert caplog.text.count("passed over") == 2 and "step 30: 10 steps are made again" in caplog.text


def test_where_every_one_is_broken_no_new_run_buries_them(folder: Folder) -> None:
    newest = folder.add(1, content=HALF)
    folder.add(0, content=b"")
    message = f"resume_from=auto: {folder.path} has 2 checkpoint(s), none of them whole: {newest}: "
    with pytest.raises(WeightsError, match=re.escape(message)) as error:
        folder.found()
    assert str(error.value).endswith("Put one of them back, or start anew with resume_from=None")


def test_what_is_given_is_taken(folder: Folder) -> None:
    folder.add(0)
    assert resolve_resume({**folder.config, "resume_from": "given.ckpt"}) == "given.ckpt"
    assert resolve_resume({**folder.config, "resume_from": None}) is None


def test_the_last_step_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_logged_step(path) == -1
    long = json.dumps({"step": 7, "x": "y" * 100_000})
    for text, step in (("", -1), ('{"step": 5}\n{"step"', 5), ('{"step": 5}\n[]\nnull\n', 5), (long, -1)):
        path.write_text(text)
        assert last_logged_step(path) == step
