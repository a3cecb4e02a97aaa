"""--fuzzy: places found by the hashes of the neighbouring lines, or refused; the hashes come from official files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.patches_official.trees import (
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
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that has the hashes."""
    ours = repository(tmp_path_factory.mktemp("ours"), patch_of())
    official = checkout(tmp_path_factory.mktemp("official"))
    run = command(ours, "learn", "meter", official)
    assert run.returncode == 0 and "5 places" in run.stdout, run.stderr
    return ours


def test_without_hashes_it_is_refused_with_the_way_to_get_them(tmp_path: Path) -> None:
    ours = repository(tmp_path / "ours", patch_of())
    theirs = checkout(tmp_path / "theirs", module=MODULE + b"\n\nA = 1\n")
    run = command(ours, "apply", "meter", theirs, "--fuzzy")
    assert run.returncode == 1 and "patches official learn meter CHECKOUT" in run.stderr
    refusal = command(ours, "learn", "meter", theirs).stderr
    assert "meter/modules/module.py is not the official file" in refusal
    assert not (ours / "patches" / "official" / "meter.lines.json").exists()


def test_hashes_and_no_official_line_are_kept(learnt: Path) -> None:
    kept = (learnt / "patches" / "official" / "meter.lines.json").read_text()
    assert not any(
        line.strip() and line.strip() in kept for data in FILES.values() for line in data.decode().split("\n")
    )


def test_a_forks_own_git_history_has_the_official_files(tmp_path: Path) -> None:
    ours = repository(tmp_path / "ours", patch_of())
    theirs = checkout(tmp_path / "theirs")
    git(theirs, "init", "-q")
    git(theirs, "add", ".")
    git(theirs, "commit", "-qm", "official")
    (theirs / "meter" / "config.py").write_bytes(b"# own\n" + CONFIG)
    run = command(ours, "learn", "meter", theirs)
    assert run.returncode == 0, run.stderr
    assert command(ours, "apply", "meter", theirs, "--fuzzy").returncode == 0


IMPORT, KEYS = b"import epic_meter\n", b"    epic_meter.keys(locals())\n"
OWN = [  # with EPIC's lines at their places
    CONFIG.replace(b"\n\n\n", b"\n" + IMPORT + b"\n\nOWN = 1\n\n\n").replace(b"    depth", KEYS + b"    depth"),
    CONFIG.replace(b"\n\n\n", b"\n" + IMPORT + b"\n\n# own\n").replace(
        b"    depth = 2\n", KEYS + b"    depth = 2\n    own = 3\n"
    ),
    CONFIG.replace(b"\n\n\n", b"\n" + IMPORT + b"\n\n")
    .replace(b"    seed = 0\n", b"")
    .replace(b"    depth", KEYS + b"    depth"),
]


@pytest.mark.parametrize("expected", OWN)
def test_places_move_with_the_lines_around_them(learnt: Path, tmp_path: Path, expected: bytes) -> None:
    theirs = checkout(tmp_path, config=expected.replace(IMPORT, b"").replace(KEYS, b""))
    before = contents(theirs)
    plan = command(learnt, "check", "meter", theirs, "--fuzzy")
    assert "meter/config.py: changed" in plan.stdout and "1 line of EPIC behind: lr = 1e-4" in plan.stdout
    assert contents(theirs) == before
    run = command(learnt, "apply", "meter", theirs, "--fuzzy")
    assert run.returncode == 0, run.stderr
    assert (theirs / "meter" / "config.py").read_bytes() == expected
    assert "has EPIC already" in command(learnt, "apply", "meter", theirs).stdout, "without --fuzzy too"
    assert command(learnt, "remove", "meter", theirs).returncode == 0
    assert contents(theirs) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CONFIG.replace(b"lr = 1e-4", b"lr = 2e-4"), "a line next to official line 6's end has changed or is gone"),
        (CONFIG.replace(b"    seed = 0\n", b"    lr = 1e-4\n    depth = 2\n"), "stands at several places"),
        (b"", "official line 1's end has changed"),
    ],
)
def test_a_place_that_is_not_certain_is_refused(learnt: Path, tmp_path: Path, config: bytes, message: str) -> None:
    theirs = checkout(tmp_path, config=config)
    before = contents(theirs)
    run = command(learnt, "apply", "meter", theirs, "--fuzzy")
    assert run.returncode == 1 and message in run.stderr and "insert by hand" in run.stderr, run.stderr
    assert contents(theirs) == before


def test_a_place_at_the_end_stays_at_the_end(learnt: Path, tmp_path: Path) -> None:
    theirs = checkout(tmp_path, module=b"# own\n" + MODULE)
    assert command(learnt, "apply", "meter", theirs, "--fuzzy").returncode == 1, "the first place was the first line"
    grown = checkout(tmp_path, module=MODULE.replace(b"class", b"A = 1\n\n\nclass"))
    assert command(learnt, "apply", "meter", grown, "--fuzzy").returncode == 0
    assert (grown / "meter" / "modules" / "module.py").read_bytes().endswith(b"epic_meter.save(self, checkpoint)\n")
