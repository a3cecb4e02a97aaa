"""constraints/known-good.txt, and the command that writes it."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from vlp.constraints import SETUP, installed, main, requirements, text_of

FILE = SETUP.parent / "constraints" / "known-good.txt"


def constrained() -> dict[str, Version]:
    """The versions in the file, by name; a line of any other form fails."""
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([a-z0-9-]+)==(\S+)", line) for line in lines]
    return {match[1]: Version(match[2]) for match in found if match is not None} if all(found) else {}


def test_every_requirement_has_a_version_within_its_range() -> None:
    versions = constrained()
    wanted = requirements()
    assert {"torch", "lightning", "sacred", "ruamel.yaml", "wandb", "pytest"} <= {each.name for each in wanted}
    for requirement in wanted:
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_no_line_needs_another_index_or_this_checkout() -> None:
    versions = constrained()
    assert versions and not [name for name, each in versions.items() if each.local]
    assert "epic-vlp" not in versions


def test_the_command_writes_what_is_installed_and_what_that_needs(tmp_path: Path) -> None:
    found = installed([Requirement("torch>=2"), Requirement("nowhere; python_version < '3'")])
    assert str(found["torch"]) == version("torch") and "filelock" in found and "nowhere" not in found
    assert f"torch=={Version(version('torch')).public}\n" in text_of(found)


def test_a_requirement_that_is_not_installed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlp.constraints.requirements", lambda: [Requirement("no-such-package-here")])
    target = tmp_path / "known-good.txt"
    assert main([str(target)]) == 1 and not target.exists()
    assert capsys.readouterr().err.startswith("error: no-such-package-here is not installed here")
