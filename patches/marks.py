"""The marks around EPIC's lines: everything from ``# EPIC >`` to ``# < EPIC`` is an insertion into the vanilla file."""

from __future__ import annotations

import io
import re
from typing import NamedTuple

OPEN, CLOSE = "# EPIC >", "# < EPIC"
# Whatever resembles a mark must be one: a mistyped mark would leave EPIC's lines in the vanilla file.
_RESEMBLES = re.compile(r"#\W*EPIC\s*>|#\W*<\s*EPIC")


class PatchError(ValueError):
    """A mark, a patch or a tree that is not as it must be; the message names the file and line."""


class Line(NamedTuple):
    """One line with its end, and whether it is EPIC's (a mark or a line between marks)."""

    text: str
    epic: bool


def lines_of(text: str, name: str) -> list[Line]:
    """The lines of a file; ``name`` is for messages.

    Raises:
        PatchError: a mark inside a marked block, one without its partner or mistyped, or no line end at the end.
    """
    result: list[Line] = []
    opened = 0
    for number, line in enumerate(io.StringIO(text), 1):
        mark = line.strip()
        if mark == OPEN and opened:
            raise PatchError(f"{name}:{number}: '{OPEN}' inside the block that line {opened} opens")
        if mark == CLOSE and not opened:
            raise PatchError(f"{name}:{number}: '{CLOSE}' without an '{OPEN}' before it")
        if mark not in (OPEN, CLOSE) and _RESEMBLES.search(line):
            raise PatchError(f"{name}:{number}: a mark stands alone on its line, as '{OPEN}' or '{CLOSE}'")
        if mark == OPEN:
            opened = number
        result.append(Line(line, bool(opened)))
        if mark == CLOSE:
            opened = 0
    if opened:
        raise PatchError(f"{name}:{opened}: '{OPEN}' without a '{CLOSE}' after it")
    if text and not text.endswith("\n"):
        raise PatchError(f"{name}: the last line has no line end")
    return result


def without_blocks(text: str, name: str) -> str:
    """The vanilla file. Raises :class:`PatchError` as :func:`lines_of` does."""
    return "".join(line.text for line in lines_of(text, name) if not line.epic)


def blocks(text: str, name: str) -> list[tuple[int, int]]:
    """(line, number of lines with its marks) of every block. Raises :class:`PatchError` as :func:`lines_of` does."""
    result: list[tuple[int, int]] = []
    for number, line in enumerate(lines_of(text, name), 1):
        if line.text.strip() == OPEN:
            result.append((number, 0))
        if line.epic:
            start, count = result[-1]
            result[-1] = (start, count + 1)
    return result
