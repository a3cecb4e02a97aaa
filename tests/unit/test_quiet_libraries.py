"""Libraries' news that nobody can act on is kept back, in a process of its own; the rest is printed once."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import logging, warnings
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from vlp.quiet_libraries import quiet_libraries
logging.basicConfig(level=logging.INFO, format="%(message)s")
quiet_libraries()
import lightning
lightning.Trainer(accelerator="cpu", logger=False, val_check_interval=1.0)
warnings.warn("It is recommended to use `self.log('a', ..., sync_dist=True)` when logging", UserWarning)
warnings.warn("a divisor is zero", UserWarning)
rank_zero_info("saving model to x")
"""


def test_only_what_serves_a_user_is_printed() -> None:
    done = subprocess.run([sys.executable, "-W", "default", "-c", CODE], capture_output=True, text=True, check=True)
    printed = done.stdout + done.stderr
    for unwanted in ("GPU available", "TPU", "Tip", "was configured so validation", "sync_dist"):
        assert unwanted not in printed, printed
    assert printed.count("saving model to x") == 1 and "a divisor is zero" in printed
