"""check, apply and remove on a stand-in for an official checkout: states, refusals, and the very bytes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from patches.official.lines import inserted
from patches.official.patch_file import loads
from tests.unit.patches_official.trees import (
    COMMIT,
    CONFIG,
    FILES,
    MODULE,
    checkout,
    command,
    contents,
    git,
    patch_of,
    repository,
)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("ours"), patch_of())


def patched_files() -> dict[str, bytes]:
    return {file.path: inserted(FILES[file.path], file.insertions) for file in patch_of().files}


def test_apply_puts_every_line_in_its_place_and_remove_gives_back_the_bytes(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path)
    (theirs / "meter" / "config.py").chmod(0o755)
    before = contents(theirs)
    assert "meter/config.py: official" in command(ours, "check", "meter", theirs).stdout
    assert contents(theirs) == before
    run = command(ours, "apply", "meter", theirs)
    assert run.returncode == 0, run.stderr
    after = contents(theirs)
    assert {name: after[name] for name in FILES} == patched_files()
    assert set(after) - set(before) == {
        *("epic_meter.py", "epic_support.py", "epic_meter.patch"),
        *("epic_common/__init__.py", "epic_common/masking.py", "epic_common/sub/__init__.py", "epic_common/LICENSE"),
        "epic_common/safe_output.py",
    }
    assert (theirs / "meter" / "config.py").stat().st_mode & 0o777 == 0o755
    check = command(ours, "check", "meter", theirs)
    assert check.returncode == 0 and "meter/config.py: patched\n" in check.stdout
    assert "has EPIC already" in command(ours, "apply", "meter", theirs).stdout
    assert contents(theirs) == after
    (theirs / "epic_common" / "__pycache__").mkdir()
    (theirs / "epic_common" / "__pycache__" / "masking.cpython-310.pyc").write_bytes(b"")
    run = command(ours, "remove", "meter", theirs)
    assert run.returncode == 0, run.stderr
    assert contents(theirs) == before
    assert not (theirs / "epic_common").exists()
    assert "has no EPIC" in command(ours, "remove", "meter", theirs).stdout


def test_it_runs_with_the_standard_library_alone(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path)
    bare = [sys.executable, "-S", "-m", "patches", "official", "apply", "meter", str(theirs)]
    run = subprocess.run(bare, cwd=ours, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""})
    assert run.returncode == 0, run.stderr
    assert (theirs / "meter" / "config.py").read_bytes() == patched_files()["meter/config.py"]


def test_git_reads_the_patch_as_the_command_does(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path / "theirs")
    git(theirs, "init", "-q")
    git(theirs, "apply", "--unidiff-zero", str(ours / "patches" / "official" / "meter.patch"))
    assert {name: data for name, data in contents(theirs).items() if name in FILES} == patched_files()
    assert command(ours, "apply", "meter", theirs).returncode == 0, "what git inserted is taken for ours"
    git(theirs, "apply", "--unidiff-zero", "-R", "epic_meter.patch")
    assert {name: data for name, data in contents(theirs).items() if name in FILES} == FILES


def test_gits_three_way_merge_finds_the_place_in_a_fork(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path / "theirs")
    git(theirs, "init", "-q")
    git(theirs, "add", ".")
    git(theirs, "commit", "-qm", "official")
    (theirs / "meter" / "config.py").write_bytes(CONFIG.replace(b"\n\n\n", b"\n\n\nA = 1\n\n\n"))
    git(theirs, "commit", "-qam", "own")
    git(theirs, "apply", "--unidiff-zero", "--3way", str(ours / "patches" / "official" / "meter.patch"))
    own = (theirs / "meter" / "config.py").read_bytes()
    assert own == patched_files()["meter/config.py"].replace(b"\n\n\n", b"\n\n\nA = 1\n\n\n")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (MODULE.replace(b"+ 1", b"+ 2"), f"check out commit {COMMIT}"),
        (MODULE.replace(b"\n", b"\r\n"), "line ends of Windows"),
        (MODULE.replace(b"\n", b"\r\n", 1), "mixed line ends"),
        (MODULE.replace(b"y = x", b"y = x\r"), "carriage return"),
        (b"import epic_meter\n" + MODULE, "some of EPIC's lines are there"),
    ],
)
def test_one_file_that_is_not_official_keeps_all_as_they_are(
    ours: Path, tmp_path: Path, module: bytes, message: str
) -> None:
    theirs = checkout(tmp_path, module=module)
    before = contents(theirs)
    run = command(ours, "apply", "meter", theirs)
    assert run.returncode == 1 and message in run.stderr and "meter/modules/module.py" in run.stderr
    assert "nothing was changed" in run.stderr and "meter/config.py" not in run.stderr
    assert contents(theirs) == before
    check = command(ours, "check", "meter", theirs)
    assert check.returncode == 1 and message in check.stderr and "meter/config.py: official" in check.stdout


def test_a_missing_file_a_link_and_no_folder_are_named(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path / "theirs")
    (theirs / "meter" / "config.py").unlink()
    assert "meter/config.py is missing" in command(ours, "apply", "meter", theirs).stderr
    (tmp_path / "elsewhere.py").write_bytes(CONFIG)
    (theirs / "meter" / "config.py").symlink_to(tmp_path / "elsewhere.py")
    assert "meter/config.py is a link" in command(ours, "apply", "meter", theirs).stderr
    assert (tmp_path / "elsewhere.py").read_bytes() == CONFIG
    assert "is no folder" in command(ours, "apply", "meter", tmp_path / "nowhere").stderr


def test_the_users_changes_after_apply_survive_remove(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path)
    command(ours, "apply", "meter", theirs)
    config, support = theirs / "meter" / "config.py", theirs / "epic_meter.py"
    config.write_bytes(config.read_bytes().replace(b"    lr = 1e-4\n", b"    lr = 5e-5\n    warmup = 9\n"))
    support.write_text("own = 1\n")
    check = command(ours, "check", "meter", theirs)
    assert "meter/config.py: patched, and changed besides" in check.stdout
    run = command(ours, "remove", "meter", theirs)
    assert "epic_meter.py: kept" in run.stdout and run.returncode == 0
    assert config.read_bytes() == CONFIG.replace(b"    lr = 1e-4\n", b"    lr = 5e-5\n    warmup = 9\n")
    assert (theirs / "meter" / "modules" / "module.py").read_bytes() == MODULE
    assert support.read_text() == "own = 1\n"


def test_remove_refuses_where_one_of_our_lines_was_changed(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path)
    command(ours, "apply", "meter", theirs)
    config = theirs / "meter" / "config.py"
    config.write_bytes(config.read_bytes().replace(b"keys(locals())", b"keys()"))
    before = contents(theirs)
    run = command(ours, "remove", "meter", theirs)
    assert run.returncode == 1 and "meter/config.py: some of EPIC's lines" in run.stderr
    assert contents(theirs) == before


def test_a_file_of_the_users_with_our_name_is_not_overwritten(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path)
    (theirs / "epic_common").mkdir()
    (theirs / "epic_common" / "masking.py").write_text("own = 1\n")
    before = contents(theirs)
    run = command(ours, "apply", "meter", theirs)
    assert run.returncode == 1 and "epic_common/masking.py is there already" in run.stderr
    assert contents(theirs) == before


def test_a_newer_version_of_ours_replaces_the_older(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path / "theirs")
    before = contents(theirs)
    newer = repository(tmp_path / "newer", patch_of())
    patch = newer / "patches" / "official" / "meter.patch"
    patch.write_text(patch.read_text().replace("epic_meter.keys(locals())", "epic_meter.add(locals())"))
    (newer / "epic_common" / "masking.py").unlink()
    (newer / "epic_common" / "other.py").write_text("")
    command(ours, "apply", "meter", theirs)
    run = command(newer, "apply", "meter", theirs)
    assert run.returncode == 0, run.stderr
    assert b"epic_meter.add(locals())" in (theirs / "meter" / "config.py").read_bytes()
    assert b"keys(locals())" not in (theirs / "meter" / "config.py").read_bytes()
    assert not (theirs / "epic_common" / "masking.py").exists()
    assert command(ours, "remove", "meter", theirs).returncode == 0, "by the record, whatever version runs"
    assert contents(theirs) == before


def test_a_last_line_without_end_stays_without(tmp_path: Path) -> None:
    module = MODULE.removesuffix(b"\n")
    ours = repository(tmp_path / "ours", patch_of(module=module))
    theirs = checkout(tmp_path / "theirs", module=module)
    before = contents(theirs)
    assert command(ours, "apply", "meter", theirs).returncode == 0
    after = (theirs / "meter" / "modules" / "module.py").read_bytes()
    assert b"        return y\n\n    def on_save" in after and not after.endswith(b"\n")
    assert command(ours, "remove", "meter", theirs).returncode == 0
    assert contents(theirs) == before


def test_lines_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    config = b'"""Docs."""\nfrom __future__ import annotations\n' + CONFIG
    ours = repository(tmp_path / "ours", patch_of(config=config))
    theirs = checkout(tmp_path / "theirs", config=config)
    run = command(ours, "apply", "meter", theirs)
    assert run.returncode == 1 and "meter/config.py: with EPIC's lines it would be no valid Python" in run.stderr


def test_the_record_is_the_patch_as_applied(ours: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path)
    command(ours, "apply", "meter", theirs)
    record = loads((theirs / "epic_meter.patch").read_text(), "record")
    assert record.files == patch_of().files
    assert "epic_common/sub/__init__.py" in record.added
    (theirs / "epic_meter.patch").write_text("added ../../etc/passwd\n")
    run = command(ours, "remove", "meter", theirs)
    assert run.returncode == 1 and "epic_meter.patch is no patch" in run.stderr
