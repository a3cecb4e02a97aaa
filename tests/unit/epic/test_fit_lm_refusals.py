"""Fitting a language model from its command line: what cannot be fitted is named, and what is left is said."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from epic_common.config import EpicConfig
from epic_common.language_models import progress
from epic_common.language_models.fit import FitSettings, fit_language_model, main
from tests.unit.epic.small_captions import SMALL


def test_a_name_that_the_hub_does_not_give_is_one_line(
    captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit):
        main(["--captions", str(captions), "--output", str(tmp_path / "new"), "--init", "no-such/model"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "no-such/model: neither a folder nor in the local cache, and http://127.0.0.1:1 cannot be reached; give the "
        "folder of a masked LM"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE forbids to ask the Hugging Face hub"):
        fit_language_model(captions, tmp_path / "new", FitSettings(init="no-such/model"))


def test_a_failure_at_the_end_leaves_no_half_folder(
    captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        fit_language_model(captions, tmp_path / "lm", FitSettings(steps=1, **SMALL))
    assert list(tmp_path.iterdir()) == []


def test_captions_that_are_not_there_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(ValueError, match=rf"{path}: no such file; it is to hold one caption a line"):
            fit_language_model(path, tmp_path / "lm")


@pytest.mark.parametrize(
    ("text", "message"), [(b"one caption\n\n", "holds 1 captions"), (b"caf\xe9\nb\n", "not UTF-8")]
)
def test_a_bad_caption_file_is_named(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"captions\.txt.*{message}|captions\.txt is {message}"):
        fit_language_model(path, tmp_path / "lm")


@pytest.mark.parametrize(
    "bad",
    [
        *({"family": "gpt"}, {"steps": 0}, {"mlm_prob": 1.0}, {"held_out": 0.0}, {"max_length": 2}, {"width": 30}),
        *({"seed": -1}, {"seed": 10**20}, {"learning_rate": -1.0}, {"learning_rate": float("nan")}, {"steps": 2.5}),
    ],
)
def test_bad_settings_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        FitSettings(**bad)


@pytest.mark.parametrize(("family", "least"), [("roberta", 261), ("bert", None)])
def test_a_vocabulary_without_room_for_single_characters(
    family: str, least: int | None, captions: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"vocab_size is 3; special tokens and .* alone are {least or ''}"):
        fit_language_model(captions, tmp_path / "lm", FitSettings(family=family, vocab_size=3))
    assert not (tmp_path / "lm").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--vocab-size", "0"), "vocab_size is 0; it must be at least 1"),
        (("--mlm-prob", "nan"), "mlm_prob is nan; it must be a finite number, above 0, below 1"),
        (("--heads", "3"), "width 128 does not divide into 3 heads"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    option: tuple[str, str], message: str, captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--captions", str(captions), "--output", str(tmp_path / "lm"), *option])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"python -m epic_common.fit_lm: {message}\n"


def test_the_time_left_is_that_of_the_steps_that_are_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.steps_with_time_left("fitting", 20) as steps:
        for number in range(20):
            clock[0] += 3.0
            steps.advance(torch.tensor(float(number)))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"fitting: {n}/20, loss {n - 1:.3f}, {3 * (20 - n)} s left" for n in range(2, 21, 2)]


def test_the_command_line_reports_progress_with_the_time_left(
    captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        sys.executable,
        "-m",
        "epic_common.fit_lm",
        "--captions",
        str(captions),
        "--output",
        str(tmp_path / "lm"),
    ]
    sizes = [item for name, value in SMALL.items() for item in (f"--{name.replace('_', '-')}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--steps", "20", *sizes], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "fitting the language model: 20/20, loss" in done.stdout and "s left" in done.stdout
    assert "masked-token accuracy" in done.stdout and (tmp_path / "lm" / "config.json").exists()
    with pytest.raises(SystemExit) as stop:
        main([*command[3:], *sizes])
    assert stop.value.code == 2 and "already there" in capsys.readouterr().err


def test_a_second_one_into_the_same_folder_is_refused_before_it_fits(
    captions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the process that makes it; a kill of that one frees the name."""
    code = (
        "import sys, pathlib; from epic_common.language_models.alone import alone\n"
        "with alone(pathlib.Path(sys.argv[1])): print('has it', flush=True); sys.stdin.read()"
    )
    output, pipes = tmp_path / "lm", {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(output)], text=True, **pipes) as first:  # type: ignore[call-overload]
        assert first.stdout.readline() == "has it\n"
        with pytest.raises(SystemExit) as stop:
            main(["--captions", str(captions), "--output", str(output)])
        said = capsys.readouterr().err
        assert stop.value.code == 2 and f"process {first.pid} on {socket.gethostname()} since 2" in said
        assert said.endswith(f"is making {output}: wait for it, or name another output folder\n")
        first.kill()
    assert not output.exists() and (tmp_path / ".lm.lock").exists()
    fit_language_model(captions, output, FitSettings(steps=1, **SMALL))
    assert (output / "config.json").exists() and not (tmp_path / ".lm.lock").exists()


def test_help_says_that_as_many_tokens_are_masked_as_by_epic(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"default {EpicConfig().mask_ratio}, the share that EPIC masks" in " ".join(capsys.readouterr().out.split())
    assert FitSettings().mlm_prob == EpicConfig().mask_ratio
