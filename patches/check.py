"""Whether a baseline, its marks and its patch agree."""

from __future__ import annotations

from pathlib import Path

from patches.marks import PatchError, lines_of
from patches.tree import ROOT, Tree, is_epic_file, patch_path, read_tree, vanilla
from patches.unified import applied, difference


def problems(baseline: str, root: Path = ROOT) -> list[str]:
    """What is wrong, one line each; nothing if the patch leads from the vanilla baseline to this tree, both ways.

    A tree that is vanilla (after ``remove``) is well if the patch applies to it.
    """
    try:
        tree = read_tree(baseline, root)
        patch = patch_path(baseline, root)
        name = patch.relative_to(root).as_posix()
        derived, bare = difference(tree), vanilla(tree)
        if not patch.is_file():
            return [f"{name} is missing; write it with: python -m patches write {baseline}"]
        text = patch.read_bytes().decode("utf-8")
        if not derived:
            applied(text, tree, name)
        elif text != derived:
            return [f"{name} is not that of the tree; write it again with: python -m patches write {baseline}"]
        elif applied(text, bare, name) != tree:
            return [f"{name} applied to the vanilla {baseline} does not give this tree"]
    except PatchError as error:
        return [str(error)]
    return mentions(tree)


def mentions(tree: Tree) -> list[str]:
    """Lines outside the marks that name EPIC: the vanilla copy would import it, use it or speak of it."""
    return [
        f"{name}:{number}: names EPIC outside the marks: {line.text.strip()}"
        for name, text in tree.items()
        if not is_epic_file(name)
        for number, line in enumerate(lines_of(text, name), 1)
        if not line.epic and "epic" in line.text.lower()
    ]
