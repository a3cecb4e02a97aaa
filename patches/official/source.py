"""What this repository has for official checkouts: patches, the files put beside, and recorded hashes."""

from __future__ import annotations

from pathlib import Path

from patches.marks import PatchError
from patches.official import neighbours
from patches.official.checkout import Locate
from patches.official.code_bases import REPOSITORIES
from patches.official.lines import Insertion
from patches.official.patch_file import FilePatch, OfficialPatch, loads
from patches.tree import ROOT

FOLDER = "patches/official"
SCRIPTS = ("albef", "xvlm")  # fused alike, launched by plain scripts


def patch_path(baseline: str, root: Path = ROOT, shims: bool = False) -> Path:
    """The patch file of a code base, or that of its shims."""
    return root / FOLDER / f"{baseline}{'-shims' * shims}.patch"


def hashes_path(baseline: str, root: Path = ROOT) -> Path:
    """Where `learn` keeps the hashes of the lines around the places."""
    return root / FOLDER / f"{baseline}.lines.json"


def read_patch(baseline: str, root: Path = ROOT, shims: bool = False) -> OfficialPatch:
    """The patch of a code base, on demand with its shims."""
    paths = [patch_path(baseline, root)] + [patch_path(baseline, root, shims=True)] * shims
    first, *others = (loads(path.read_bytes().decode(), path.relative_to(root).as_posix()) for path in paths)
    files = {file.path: file for file in first.files}
    for file in (file for other in others for file in other.files):
        both = [*(files[file.path].insertions if file.path in files else ()), *file.insertions]
        files[file.path] = FilePatch(file.path, file.blob, tuple(sorted(both)))
    return OfficialPatch(first.title, first.repository, first.commit, tuple(files.values()))


def files_beside(baseline: str, root: Path = ROOT, shims: bool = False) -> dict[str, bytes]:
    """Our own files in a patched checkout: the method, its licence and the support files."""
    files = {path.relative_to(root).as_posix(): path for path in sorted((root / "epic_common").rglob("*.py"))}
    files["epic_common/LICENSE"] = root / "LICENSE"
    shared = ["epic_support.py"] + ["epic_fusion.py"] * (baseline in SCRIPTS)
    for name in [*shared, f"epic_{baseline}.py"] + ["epic_shims.py"] * shims:
        files[name] = root / FOLDER / "support" / name
    return {name: path.read_bytes() for name, path in files.items()}


def locator(baseline: str, root: Path = ROOT) -> Locate:
    """How --fuzzy finds the places. Raises :class:`PatchError` if nothing was learnt."""
    path = hashes_path(baseline, root)
    if not path.is_file():
        raise PatchError(
            f"--fuzzy needs the hashes of the lines around the places, and {FOLDER}/{path.name} is missing: "
            f"python -m patches official learn {baseline} CHECKOUT, with an unmodified checkout of commit "
            f"{REPOSITORIES[baseline].commit}, or one that has it in its git history"
        )
    known = neighbours.read(path)

    def locate(data: bytes, file: FilePatch) -> list[Insertion]:
        return neighbours.locate(data, file.insertions, known.get(file.path, {}))

    return locate
