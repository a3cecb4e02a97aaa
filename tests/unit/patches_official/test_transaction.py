"""Files change together or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from patches.official.transaction import change_files
from tests.unit.patches_official.trees import contents

CHANGE = {"a": b"new", "sub/b": None, "c/d/e": b"made", "z": b"last"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b", "z"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_all_changes_happen(folder: Path) -> None:
    change_files(folder, CHANGE)
    assert contents(folder) == {"a": b"new", "c/d/e": b"made", "z": b"last"}
    assert not (folder / "sub").exists(), "an empty folder is gone"


def test_folders_go_with_the_last_of_their_files(tmp_path: Path) -> None:
    names = ("package/part/one", "package/part/two", "package/three")
    (tmp_path / "package" / "part").mkdir(parents=True)
    for name in names:
        (tmp_path / name).touch()
    change_files(tmp_path, dict.fromkeys(names))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("at", range(3))
def test_a_failure_midway_brings_everything_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, error: type[BaseException]
) -> None:
    before, replace, calls = contents(folder), os.replace, iter(range(9))

    def failing(source: Path, target: Path) -> None:
        if next(calls) == at:
            raise error("disk gone")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(error, match="disk gone"):
        change_files(folder, CHANGE)
    assert contents(folder) == before
    assert not (folder / "c").exists()


def test_nothing_is_replaced_before_everything_is_written(folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(OSError):
        change_files(folder, {"a": b"new", "z/below": b"z is a file"})
    assert contents(folder) == before
