"""The console for what commands print on stdout."""

from __future__ import annotations

import sys

from rich.console import Console


def stdout_console() -> Console:
    """As wide as the terminal; where there is none, so wide that no table is cut or folded."""
    return Console() if sys.stdout.isatty() else Console(width=1000)
