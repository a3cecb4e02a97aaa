"""The small script as a file that launchers start."""

from __future__ import annotations

from tests.unit.yaml_dialect.small_runs import COMMAND, baseline
from vlp.yaml_dialect.run import run
from vlp.yaml_dialect.start import start

if __name__ == "__main__":
    start(COMMAND, lambda config: run(baseline(), "Small", config))
