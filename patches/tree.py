"""A baseline's files as EPIC's patch sees them: EPIC's own files, files with marked lines, and the vanilla rest."""

from __future__ import annotations

from pathlib import Path

from patches.marks import without_blocks

ROOT = Path(__file__).parents[1]
LAUNCHERS = ("run.py", "Pretrain.py")
SUFFIXES = (".py", ".yaml", ".yml", ".json", ".sh")

Tree = dict[str, str]  # path below the repository root -> text


def present(root: Path = ROOT) -> list[str]:
    """The baselines of this repository: the folders that hold a launcher."""
    return sorted({path.parent.name for launcher in LAUNCHERS for path in root.glob(f"*/{launcher}")})


def patch_path(baseline: str, root: Path = ROOT) -> Path:
    """Where the baseline's patch is kept."""
    return root / "patches" / f"{baseline}.patch"


def read_tree(baseline: str, root: Path = ROOT) -> Tree:
    """The baseline's source files, in order of their paths."""
    paths = (path for path in (root / baseline).rglob("*") if path.suffix in SUFFIXES and path.is_file())
    # Bytes: reading as text would turn \r\n into \n, and the patch must give back every byte.
    return {path.relative_to(root).as_posix(): path.read_bytes().decode("utf-8") for path in sorted(paths)}


def write_tree(old: Tree, new: Tree, root: Path = ROOT) -> None:
    """Turn the files of ``old`` into those of ``new``."""
    for name in old.keys() - new.keys():
        (root / name).unlink()
    for name, text in new.items():
        if old.get(name) != text:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(text.encode("utf-8"))


def is_epic_file(name: str) -> bool:
    """Whether a file is wholly EPIC's: its name says so."""
    return "epic" in name.rsplit("/", 1)[-1].lower()


def vanilla(tree: Tree) -> Tree:
    """The tree without EPIC: without its files and without its marked lines.

    Raises:
        PatchError: a mark is wrong.
    """
    return {name: without_blocks(text, name) for name, text in tree.items() if not is_epic_file(name)}
