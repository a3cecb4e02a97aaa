"""The files of constraints/, and the command that writes them."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from vlp.constraints import OF_CUDA, SETUP, differences, installed, main, requirements, text_of

FILES = sorted((SETUP.parent / "constraints").glob("known-good*.txt"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def constrained(file: Path) -> dict[str, Version]:
    """The versions in a file, by name; a line of any other form fails."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([a-z0-9-]+)==(\S+)", line) for line in lines]
    return {match[1]: Version(match[2]) for match in found if match is not None} if all(found) else {}


@each_file
def test_every_requirement_has_a_version_within_its_range(file: Path) -> None:
    versions = constrained(file)
    wanted = requirements()
    assert {"torch", "lightning", "sacred", "ruamel.yaml", "wandb", "pytest"} <= {each.name for each in wanted}
    for requirement in wanted:
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@each_file
def test_no_line_needs_another_index_or_this_checkout_or_cuda(file: Path) -> None:
    versions = constrained(file)
    assert versions and not [name for name, each in versions.items() if each.local]
    assert "epic-vlp" not in versions and not [name for name in versions if name.startswith(OF_CUDA)]


def test_the_command_writes_what_is_installed_and_what_that_needs(tmp_path: Path) -> None:
    found = installed([Requirement("torch>=2"), Requirement("nowhere; python_version < '3'")])
    assert str(found["torch"]) == version("torch") and "filelock" in found and "nowhere" not in found
    assert f"torch=={Version(version('torch')).public}\n" in text_of(found)


def test_what_cuda_needs_is_left_out() -> None:
    assert not installed([Requirement("nvidia-nothing-here"), Requirement("triton==3")])


def test_what_differs_from_a_file_is_said(tmp_path: Path) -> None:
    file = tmp_path / "known.txt"
    file.write_text("# head\nalike==1.0\ngone==2\nolder==3.1\n")
    here = {"alike": Version("1.0+cpu"), "older": Version("3.2"), "new": Version("4")}
    assert differences(here, file) == ["gone: 2 -> none", "new: none -> 4", "older: 3.1 -> 3.2"]


@pytest.mark.parametrize("newest", [False, True])
def test_make_installs_the_known_good_versions_unless_it_is_asked_for_the_newest(newest: bool) -> None:
    items = [f"PYTHON={sys.executable}", "VENV=.no-such-venv", *(["NEWEST=1"] if newest else [])]
    said = subprocess.run(["make", "-n", "setup-test", *items], cwd=SETUP.parent, capture_output=True, text=True)
    installs = [line for line in said.stdout.splitlines() if "[meter," in line]
    assert said.returncode == 0 and len(installs) == 2, said.stderr
    assert ["-c constraints/known-good" in line for line in installs] == 2 * [not newest]


def test_a_requirement_that_is_not_installed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlp.constraints.requirements", lambda: [Requirement("no-such-package-here")])
    target = tmp_path / "known-good.txt"
    assert main([str(target)]) == 1 and not target.exists()
    assert capsys.readouterr().err.startswith("error: no-such-package-here is not installed here")
