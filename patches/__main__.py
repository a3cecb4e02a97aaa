"""EPIC as a patch of the baselines.

python -m patches list   [BASELINE]    # marked blocks, EPIC's own files, how many lines
python -m patches check  [BASELINE]    # marks well-formed, patch up to date, applies, and the vanilla rest free of EPIC
python -m patches write  [BASELINE]    # write patches/BASELINE.patch anew, after a change of marked lines or EPIC files
python -m patches remove [BASELINE]    # make the tree in place vanilla
python -m patches apply  [BASELINE]    # bring EPIC back; `git apply` and `patch -p1` read the same file
python -m patches official ...         # EPIC for a checkout of the official code: docs/official_checkouts.md
"""

from __future__ import annotations

import argparse
import sys

from epic_common.safe_output import make_output_safe
from patches.check import problems
from patches.marks import PatchError, blocks
from patches.official import command as official
from patches.tree import ROOT, is_epic_file, patch_path, present, read_tree, vanilla, write_tree
from patches.unified import applied, difference


def list_patch(baseline: str) -> None:
    """Print the patch: where its lines are and how many."""
    tree = read_tree(baseline)
    marked = [(f"{name}:{line}", count) for name, text in tree.items() for line, count in blocks(text, name)]
    whole = [(name, text.count("\n")) for name, text in tree.items() if is_epic_file(name)]
    for place, count in marked:
        print(f"{place:<44}{count:4} lines")
    for name, count in whole:
        print(f"{name:<44}{count:4} lines, wholly EPIC's")
    lines, files = sum(count for _, count in marked), {place.split(":")[0] for place, _ in marked}
    print(
        f"{baseline}: {lines} lines in {len(marked)} blocks of {len(files)} files ({lines - 2 * len(marked)} without "
        f"their marks); wholly EPIC's: {sum(count for _, count in whole)} lines"
    )


def check_patch(baseline: str) -> None:
    """Raise a PatchError that lists what is wrong."""
    wrong = problems(baseline)
    if wrong:
        raise PatchError("\n".join(wrong))
    print(f"{baseline}: {'well' if difference(read_tree(baseline)) else 'vanilla; the patch applies'}")


def write_patch(baseline: str) -> None:
    """Write the patch file from the tree."""
    text = difference(read_tree(baseline))
    if not text:
        raise PatchError(f"{baseline} is vanilla; bring EPIC back with: python -m patches apply {baseline}")
    path = patch_path(baseline)
    path.write_bytes(text.encode("utf-8"))
    print(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")


def remove_patch(baseline: str) -> None:
    """Make the tree vanilla, if the patch file can bring back what is removed; a vanilla one stays as it is."""
    tree = read_tree(baseline)
    if not difference(tree):
        print(f"{baseline} is vanilla already")
        return
    wrong = problems(baseline)
    if wrong:
        raise PatchError("\n".join([*wrong, "nothing was removed: `apply` could not bring it back"]))
    write_tree(tree, vanilla(tree))
    print(f"{baseline} is vanilla; bring EPIC back with: python -m patches apply {baseline}")


def apply_patch(baseline: str) -> None:
    """Insert EPIC into a vanilla tree; one that has it stays as it is."""
    tree, path = read_tree(baseline), patch_path(baseline)
    name, present_lines = path.relative_to(ROOT).as_posix(), difference(tree)
    if not path.is_file():
        raise PatchError(f"{name} is missing")
    patch = path.read_bytes().decode("utf-8")
    if present_lines == patch:
        print(f"{baseline} has EPIC already")
        return
    if present_lines:
        raise PatchError(
            f"{baseline} has lines of EPIC, other ones than {name} inserts: python -m patches list {baseline}"
        )
    write_tree(tree, applied(patch, tree, name))
    print(f"{baseline} has EPIC; take it out with: python -m patches remove {baseline}")


COMMANDS = {
    "list": list_patch,
    "check": check_patch,
    "write": write_patch,
    "remove": remove_patch,
    "apply": apply_patch,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command for one baseline or for all; return 0, or 1 if something is wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["official"]:
        return official.main(arguments[1:])
    description, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m patches",
        description=description,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("baseline", nargs="?", choices=present(), help="default: all of them")
    options = parser.parse_args(arguments)
    status = 0
    for baseline in [options.baseline] if options.baseline else present():
        try:
            COMMANDS[options.command](baseline)
        except PatchError as error:
            print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    make_output_safe()
    sys.exit(main())
