"""One run per ``output_dir``, through the real scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.harness import nothing_changes
from tests.launch.albef.launcher import AlbefLauncher
from tests.launch.launcher import ENVIRONMENT, ROOT, address
from tests.launch.yaml_launcher import ended_in_a_line
from vlp.owner import Claim, held


@pytest.mark.parametrize("items", [(), ("resume_from=auto",)], ids=["new", "auto"])
def test_a_second_run_is_refused(items: tuple[str, ...], albef: AlbefLauncher, tmp_path: Path) -> None:
    output = tmp_path / "run"
    with held(Claim(output)), nothing_changes(output):
        run = albef.run("Pretrain", *items, output=output, check=False)
    ended_in_a_line(run, f"is writing into {output}: wait for it, or give another output_dir")


def test_a_new_run_beside_one_that_has_saved_hears_of_it_first(albef: AlbefLauncher, tmp_path: Path) -> None:
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"of the first run")
    with held(Claim(tmp_path / "run")):
        run = albef.run("Pretrain", output=tmp_path / "run", check=False)
    ended_in_a_line(run, "wait for it, or give another output_dir")


@pytest.mark.slow
def test_an_evaluation_does_not_write_into_a_run_that_goes_on(albef: AlbefLauncher, tmp_path: Path) -> None:
    output, weights = tmp_path / "run", str(albef.vanilla.checkpoint)
    with held(Claim(output)), nothing_changes(output):
        run = albef.run("Retrieval", "--evaluate", "--checkpoint", weights, output=output, check=False)
    ended_in_a_line(run, f"is writing into {output}")


def test_all_processes_of_a_refused_run_end(albef: AlbefLauncher, tmp_path: Path) -> None:
    """Nothing but the first of them ends the second, which had begun to wait for it."""
    output, meet = tmp_path / "run", {**address(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, *albef.arguments("Pretrain", output, "batch_size=8")]
    with held(Claim(output)), nothing_changes(output):
        processes = [
            subprocess.Popen(
                command,
                cwd=ROOT / "albef",
                env={**ENVIRONMENT, **meet, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]
        said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], said
    assert said[0].count(f"is writing into {output}: wait") == 1 and "error: " not in said[1]
    assert "Traceback" not in "".join(said), said
