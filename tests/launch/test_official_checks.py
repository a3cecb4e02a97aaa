"""`make test-official`'s checks of METER and ViLT, on the launchers here: the command lines are official ones.

Its question for Eq. 8's scores is not among them: it needs the patched official model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.launch.launcher import ENVIRONMENT, ROOT, SMALL, Launcher
from tests.official import checks
from tests.official.checkout import Official
from tests.official.launches import LAUNCHES, Run


@pytest.mark.slow
def test_the_checks_of_a_checkout_start_its_launcher_and_find_what_it_saves(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = LAUNCHES[launcher.name]
    model = (f"tokenizer={launcher.language_model}", f"vocab_size={launcher.vocab_size}", *SMALL[launcher.name])

    def command(run: Run) -> list[str]:
        return [*about.command(run), *launcher.baseline.small, *model]

    monkeypatch.setitem(LAUNCHES, launcher.name, replace(about, command=command))
    here = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    official = Official(
        launcher.name, ROOT / launcher.folder, tmp_path, environment=here, patch=lambda name, checkout: None
    )
    checks.off_is_the_unpatched_run_to_the_bit(official)
    checks.epic_trains_and_resumes(official)
