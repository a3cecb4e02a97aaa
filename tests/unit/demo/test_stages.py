"""The demo's stages: in order, none twice, none lost, and what fails is said."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

import demo.demo_run as main
from demo.settings import parse
from demo.stages import Stage, StageError, run_command, run_stages


def stages_of(folder: Path, ran: list[int], count: int = 4) -> list[Stage]:
    def run(number: int) -> None:
        ran.append(number)
        (folder / str(number)).touch()

    return [Stage(f"stage {n}", 10, folder / str(n), partial(run, n)) for n in range(1, count + 1)]


def test_a_stage_whose_result_is_there_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[int] = []
    (tmp_path / "2").touch()
    run_stages(stages_of(tmp_path, ran))
    assert ran == [1, 3, 4]
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("[1/4] stage 1 · 0:00 gone, about 0:30 left") and second == "[2/4] stage 2: already there"
    run_stages(stages_of(tmp_path, ran))
    assert ran == [1, 3, 4]


def test_a_stage_that_leaves_no_result_ends_the_demo(tmp_path: Path) -> None:
    ran: list[int] = []
    stages = stages_of(tmp_path, ran)
    stages[1] = Stage("convert", 1, tmp_path / "nothing", lambda: None)
    with pytest.raises(StageError, match=r"convert: ended without .*nothing"):
        run_stages(stages)
    assert ran == [1]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_commands_output_is_kept_and_its_progress_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import os, sys; print('step 1/2\\nloading … 0:04'); print('noise', os.getcwd(), flush=True); "
        "sys.stderr.write('warning\\n')"
    )
    run_command(python(code), tmp_path, tmp_path / "new" / "log")
    assert (tmp_path / "new" / "log").read_text() == f"step 1/2\nloading … 0:04\nnoise {tmp_path}\nwarning\n"
    assert capfd.readouterr().out == "      step 1/2\n      loading … 0:04\n"
    run_command(python(code), tmp_path, tmp_path / "log", label="epic · ")
    assert capfd.readouterr().out == "      epic · step 1/2\n      epic · loading … 0:04\n"


def test_a_command_that_fails_is_named_with_the_end_of_its_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StageError, match=f"failed with status 3; its whole output: {tmp_path}/log"):
        run_command(python("print(*range(90), sep='\\n'); exit(3)"), tmp_path, tmp_path / "log")
    assert capfd.readouterr().err.split() == [str(i) for i in range(70, 90)]


def test_a_demo_of_other_settings_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    for again in range(2):
        main.claim_output(parse(["--output", str(tmp_path), "--steps", "7"]))
        assert json.loads((tmp_path / "settings.json").read_text())["steps"] == 7, again
    for other, message in (("--steps=8", "steps was 7, is 8"), ("--seed=1", "seed was 0, is 1")):
        with pytest.raises(SystemExit, match=f"holds a demo of other settings .*{message}.*give another --output"):
            main.claim_output(parse(["--output", str(tmp_path), "--steps", "7", other]))


def test_stages_run_the_commands_that_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a launcher that writes its part of a run directory: an interrupted training starts from nothing."""
    settings = parse(["--output", str(tmp_path), "--steps", "7"])
    settings.language_model.mkdir()
    (settings.language_model / "config.json").write_text('{"vocab_size": 99}')
    ran: list[list[str]] = []

    together, alone = threading.Barrier(2, timeout=60), {"OMP_NUM_THREADS": "3"}
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)

    def launcher(command: Sequence[str], folder: Path, log: Path, env: Mapping[str, str], label: str) -> None:
        assert folder.name == "meter"
        (log_dir,) = (Path(item.removeprefix("log_dir=")) for item in command if item.startswith("log_dir="))
        assert env == {**os.environ, **(alone if label else {})} and label in ("", f"{log_dir.name} · ")
        if label:
            together.wait()  # for the other run's command of the same kind
        run = log_dir / f"version_{log.stem}"
        run.mkdir(parents=True)
        (run / "results.json").write_text(json.dumps({"metrics": {f"{log_dir.name} {log.stem}": 1}}))
        ran.append(list(command))

    monkeypatch.setattr(main, "run_command", launcher)
    (tmp_path / "vanilla" / "version_9").mkdir(parents=True)
    for stage in main.stages(settings)[4:]:  # without the data and the fits
        assert not stage.done.exists()
        stage.run()
        assert stage.done.exists()
    assert not (tmp_path / "vanilla" / "version_9").exists()
    trainings, evaluations = ran[:2], ran[2:]
    assert trainings == [settings.about.pretraining(settings, 99, name) for name in ("vanilla", "epic")]
    assert sorted([*trainings, *evaluations]) == sorted(main.all_commands(settings))
    assert json.loads((tmp_path / "epic" / "trained.json").read_text())["steps"] == 7
    for name in ("vanilla", "epic"):
        evaluated = json.loads((tmp_path / name / "evaluated.json").read_text())
        assert evaluated == {kind: {f"{name} {kind}": 1} for kind in ("objectives", "retrieval")}


def test_nothing_is_written_of_an_evaluation_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = parse(["--output", str(tmp_path)])
    settings.language_model.mkdir()
    (settings.language_model / "config.json").write_text('{"vocab_size": 99}')

    def launcher(command: Sequence[str], folder: Path, log: Path, *others: object) -> None:
        if "epic" in command:
            raise StageError("this command failed with status 1")
        log.parent.mkdir(exist_ok=True)
        (log.parent / "results.json").write_text('{"metrics": {}}')

    monkeypatch.setattr(main, "run_command", launcher)
    with pytest.raises(StageError, match="failed with status 1"):
        main.stages(settings)[-1].run()
    assert not list(tmp_path.rglob("evaluated.json"))
