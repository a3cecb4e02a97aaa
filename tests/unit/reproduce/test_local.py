"""The launcher of one machine: order, skipping, failures, signals, locks."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reproduce import local, state
from reproduce.experiments import Experiments, Stage
from reproduce.pipeline import plan
from tests.unit.reproduce.stages import WRITE, experiments, places, stage
from vlp.config.schema import ConfigError

# Saves and ends with 75 the first time, completes the second time.
TWICE = f"""
import os, sys
if not os.path.exists(sys.argv[1] + '.saved'):
    open(sys.argv[1] + '.saved', 'w')
    sys.exit(75)
{WRITE}
"""
# Waits for SIGTERM, saves and ends with 75; the second time it completes.
SAVES = f"""
import os, signal, sys, time
saved = sys.argv[1] + '.saved'
def save(*_):
    open(saved, 'w')
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
if not os.path.exists(saved):
    print('step 1', flush=True)
    time.sleep(60)
{WRITE}
"""
HIDES = "import sys; print('stopped by a signal after step 3; status 75: start it again'); sys.exit(1)"  # as torchrun


def run(folder: Path, all_of: Experiments, *names: str) -> int:
    return local.run(plan(all_of, names or all_of.stages, places(folder)), "paper")


def attempts(folder: Path, name: str) -> int:
    record = state.read(places(folder).folder(name))
    return 0 if record is None else record["attempts"]


def test_stages_run_in_order_and_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    all_of = experiments(stage("b", after=["a"]), stage("a"))
    assert run(tmp_path, all_of, "b") == 0
    said = capsys.readouterr().out
    assert said.index("[1/2] a") < said.index("[2/2] b") and "$ python -c" in said
    assert run(tmp_path, all_of, "b") == 0
    assert capsys.readouterr().out.count("done before") == 2
    assert attempts(tmp_path, "a") == attempts(tmp_path, "b") == 1
    record = state.read(places(tmp_path).folder("a"))
    assert record is not None and record["state"] == "done" and record["seconds"] >= 0
    left = (places(tmp_path).folder("a") / "model.pt").read_bytes()
    assert record["checkpoint_sha256"] == hashlib.sha256(left).hexdigest()


def test_a_lost_checkpoint_is_made_again(tmp_path: Path) -> None:
    all_of = experiments(stage("a"))
    run(tmp_path, all_of)
    (places(tmp_path).folder("a") / "model.pt").unlink()
    assert run(tmp_path, all_of) == 0 and attempts(tmp_path, "a") == 2


def test_a_failure_names_stage_log_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails = "import sys; print('CUDA error of a kind'); sys.exit(3)"
    all_of = experiments(stage("a", fails), stage("b", after=["a"]))
    assert run(tmp_path, all_of) == 1
    said = capsys.readouterr().err
    assert "CUDA error of a kind" in said and "error: a ended with status 3" in said and "goes on from here" in said
    assert str(places(tmp_path).folder("a") / state.LOG) in said
    assert attempts(tmp_path, "b") == 0


def test_a_stage_that_leaves_nothing_is_not_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, experiments(stage("a", "pass"))) == 1
    assert "error: a left no model.pt" in capsys.readouterr().err


def test_status_75_is_started_again(tmp_path: Path) -> None:
    assert (
        run(
            tmp_path,
            experiments(stage("a", TWICE)),
        )
        == 0
    )
    assert attempts(tmp_path, "a") == 2


def test_torchrun_hides_the_status_but_not_the_line(tmp_path: Path) -> None:
    code = f"import os, sys\nif not os.path.exists(sys.argv[1] + '.x'): open(sys.argv[1] + '.x', 'w'); {HIDES}\n{WRITE}"
    assert run(tmp_path, experiments(stage("a", code))) == 0
    assert attempts(tmp_path, "a") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_next_call_goes_on(tmp_path: Path, number: int) -> None:
    all_of = experiments(stage("a", SAVES), stage("b", after=["a"]))
    saved = places(tmp_path).folder("a") / state.LOG

    def send() -> None:
        while not saved.exists() or "\nstep 1" not in saved.read_text():
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    sender = threading.Thread(target=send)
    sender.start()
    assert run(tmp_path, all_of) == state.AGAIN
    sender.join()
    assert state.read(places(tmp_path).folder("a"))["state"] == "stopped"  # type: ignore[index]
    assert attempts(tmp_path, "b") == 0
    assert run(tmp_path, all_of) == 0 and attempts(tmp_path, "a") == 2


def test_a_killed_pipeline_leaves_a_run_that_no_second_one_joins(tmp_path: Path) -> None:
    """The lock is the run's, too: after kill -9 of the pipeline it goes on, and the same command is refused."""
    waits = "import sys, time; print('step 1', flush=True); time.sleep(60)"
    code = (
        "from pathlib import Path\nfrom tests.unit.reproduce.test_local import run, experiments, stage\n"
        f"run(Path({str(tmp_path)!r}), experiments(stage('a', {waits!r})))"
    )
    folder = places(tmp_path).folder("a")
    pipeline = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, env=local.environment())
    while not (folder / state.LOG).exists() or "\nstep 1" not in (folder / state.LOG).read_text():
        assert pipeline.poll() is None
        time.sleep(0.05)
    pipeline.kill()
    pipeline.wait()
    holder = json.loads((folder / ".stage.lock").read_text())["pid"]
    assert state.is_locked(folder)
    with pytest.raises(
        ConfigError, match=f"process {holder} on .* is running the stage of .*: wait for it, or stop it"
    ):
        run(tmp_path, experiments(stage("a", waits)))
    os.kill(holder, signal.SIGKILL)
    while state.is_locked(folder):
        time.sleep(0.02)
    assert run(tmp_path, experiments(stage("a", waits.replace("60", "0") + f"\n{WRITE}"))) == 0


def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    run(tmp_path, experiments(stage("a")))
    with pytest.raises(ConfigError, match="holds a with other settings"):
        plan(experiments(stage("a", WRITE + " ")), ["a"], places(tmp_path))


def test_a_new_teacher_is_another_run(tmp_path: Path) -> None:
    run(tmp_path, experiments(stage("a"), stage("b", after=["a"])))
    with pytest.raises(ConfigError, match="what it starts from has changed"):
        plan(experiments(stage("c"), stage("b", after=["c"])), ["b"], places(tmp_path))


def test_several_machines_are_slurms(tmp_path: Path) -> None:
    four = Stage("a", "pretrain", "", ("python", "-c", ""), gpus=8, nodes=4)
    with pytest.raises(ConfigError, match="a is for 4 machines of 8 GPUs"):
        run(tmp_path, experiments(four))
    planned = plan(experiments(four), ["a"], places(tmp_path), gpus=2, nodes=1)
    assert (planned[0].gpus, planned[0].nodes) == (2, 1)


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    folder = places(tmp_path).folder("a")
    folder.mkdir(parents=True)
    (folder / state.FILE).write_text("{")
    with pytest.raises(ConfigError, match=r"stage\.json: is no JSON"):
        plan(experiments(stage("a")), ["a"], places(tmp_path))


def test_the_newest_version_is_what_later_stages_read(tmp_path: Path) -> None:
    for version in (2, 10):
        path = tmp_path / f"run/version_{version}/checkpoints/last.ckpt"
        path.parent.mkdir(parents=True)
        path.write_text(str(version))
    os.utime(tmp_path / "run/version_2/checkpoints/last.ckpt")
    record = {"checkpoint": "last.ckpt", "found": "*/version_*/checkpoints/last.ckpt", "scored": False}
    assert state.link_and_find(tmp_path, record) == ""
    assert (tmp_path / "last.ckpt").read_text() == "10"
