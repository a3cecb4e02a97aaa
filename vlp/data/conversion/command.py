"""How the command lines of the converters end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from vlp.data.errors import DataError


def status_of(
    command: Callable[[], bool], when_interrupted: str, wrong: tuple[type[Exception], ...] = (DataError, OSError)
) -> int:
    """Run ``command``; return 0, 1 if that says False or raises one of ``wrong``, 130 when interrupted.

    ``when_interrupted``: what is then said of its files.
    """
    try:
        return 0 if command() else 1
    except wrong as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; {when_interrupted}", file=sys.stderr)
        return 130
