"""Unified diffs that only insert, as ``git apply`` and ``patch -p1`` read them."""

from __future__ import annotations

import io
import re

from patches.marks import PatchError, lines_of
from patches.tree import Tree, is_epic_file

CONTEXT = 3
_HEADER = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def difference(tree: Tree) -> str:
    """The patch from the vanilla tree to ``tree``: its marked lines and EPIC's files, nothing else.

    The hunks come from the marks themselves: a comparison of lines may take others, equal to marked ones, for new.

    Raises:
        PatchError: a mark is wrong, or a file of EPIC's is empty, which a patch cannot say.
    """
    parts = []
    for name, text in tree.items():
        if not is_epic_file(name):
            hunks = _hunks([(line.text, line.epic) for line in lines_of(text, name)])
        elif text:
            hunks = _hunks([(line.text, True) for line in lines_of(text, name)])
        else:
            raise PatchError(f"{name}: an empty file cannot stand in a patch")
        if hunks:
            old = "/dev/null" if is_epic_file(name) else f"a/{name}"
            parts.append(f"--- {old}\n+++ b/{name}\n{hunks}")
    return "".join(parts)


def _hunks(lines: list[tuple[str, bool]]) -> str:
    """Hunks of a file whose lines are (text, is new)."""
    new = [i for i, (_, is_new) in enumerate(lines) if is_new]
    shown = sorted({j for i in new for j in range(max(i - CONTEXT, 0), min(i + CONTEXT + 1, len(lines)))})
    starts = [i for i in shown if i - 1 not in shown]
    ends = [i + 1 for i in shown if i + 1 not in shown]
    return "".join(_hunk(lines, start, end) for start, end in zip(starts, ends, strict=True))


def _hunk(lines: list[tuple[str, bool]], start: int, end: int) -> str:
    body = lines[start:end]
    before, kept = (sum(not is_new for _, is_new in part) for part in (lines[:start], body))
    # The line number of an empty side is that of the line before it.
    old = f"{before + 1 if kept else before},{kept}"
    text = "".join(f"{'+' if is_new else ' '}{line}" for line, is_new in body)
    return f"@@ -{old} +{start + 1},{len(body)} @@\n{text}"


def applied(patch: str, tree: Tree, patch_name: str) -> Tree:
    """``tree`` after ``patch``, exactly: no line may have moved.

    Raises:
        PatchError: it does not apply; names the file and line.
    """
    result = dict(tree)
    for part in re.split(r"^(?=--- )", patch, flags=re.MULTILINE)[1:]:
        old, new, *body = list(io.StringIO(part))
        name = new.removeprefix("+++ b/").rstrip("\n")
        creates = old == "--- /dev/null\n"
        if creates == (name in tree):
            raise PatchError(f"{patch_name}: {name} {'is already there' if creates else 'is not there'}")
        result[name] = _patched(tree.get(name, ""), body, name, patch_name)
    return dict(sorted(result.items()))


def _patched(text: str, body: list[str], name: str, patch_name: str) -> str:
    old, new, position = list(io.StringIO(text)), [], 0
    for line in body:
        if header := _HEADER.match(line):
            start = int(header[1]) - (header[2] != "0")
            new += old[position:start]
            position = start
        elif line[0] == "+":
            new.append(line[1:])
        elif position < len(old) and old[position] == line[1:]:
            new.append(old[position])
            position += 1
        else:
            raise PatchError(
                f"{patch_name} does not apply to {name}:{position + 1}, which has changed since; "
                f"`git apply --3way {patch_name}` or `patch -p1 < {patch_name}` may still place it"
            )
    return "".join(new + old[position:])
