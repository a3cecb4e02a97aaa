"""The official code bases: the commit that a patch is for, its files' blobs, and what goes in behind which line.

Facts of docs/official/<baseline>.md section 10; the lines are ours. `python -m patches official write` makes the patch
files from here. Lines and support files change together: what a line calls is in support/epic_<baseline>.py.
"""

from __future__ import annotations

from patches.official.lines import Insertion
from patches.official.patch_file import FilePatch, OfficialPatch


def _at(after: int, indent: int, *lines: str) -> Insertion:
    return Insertion(after, tuple(" " * indent + line if line else "" for line in lines))


METER = OfficialPatch(
    "EPIC for METER",
    "https://github.com/zdou0830/METER",
    "f4f09345b26ee21add0a756d06598e3c04726345",
    (FilePatch("meter/config.py", "3dc092ee657d1e030391f6284c7e7a6d58100c85", (_at(1, 0, "import epic_meter"),)),),
)
CODE_BASES = {"meter": METER}
SHIMS: dict[str, OfficialPatch] = {}
