"""Stand-ins for official checkouts, with EPIC's places at the official lines, and their patches."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from patches.official.checkout import plan_apply
from patches.official.code_bases import CODE_BASES
from patches.official.lines import blob
from patches.official.patch_file import OfficialPatch
from patches.official.source import files_beside
from patches.official.transaction import change_files

TEMPLATES = Path(__file__).parent / "standins"


def standin(baseline: str, root: Path) -> Path:
    """A checkout of the stand-in, in which line N is where its template says ``#@N``."""
    for template in (TEMPLATES / baseline).rglob("*.in"):
        path = root / template.relative_to(TEMPLATES / baseline).with_suffix("")
        path.parent.mkdir(parents=True, exist_ok=True)
        lines: list[str] = []
        for line in template.read_text(encoding="utf-8").splitlines():
            place = re.fullmatch(r"( *)#@(\d+)", line)
            lines += [place[1] + "#"] * (int(place[2]) - len(lines)) if place else [line]
            assert not place or len(lines) == int(place[2]), f"{template}: {line} comes too late"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def patch_of(baseline: str, root: Path) -> OfficialPatch:
    """The shipped patch, for the files of the stand-in."""
    patch = CODE_BASES[baseline]
    files = (replace(file, blob=blob((root / file.path).read_bytes())) for file in patch.files)
    return replace(patch, files=tuple(files))


def patched(baseline: str, root: Path) -> Path:
    """The stand-in at ``root`` with EPIC, as `apply` makes it."""
    patch = patch_of(baseline, root)
    change_files(root, plan_apply(root, baseline, patch, files_beside(baseline), None).contents)
    return root
