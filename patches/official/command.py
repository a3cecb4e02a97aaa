"""EPIC for a checkout of the official METER, ViLT, ALBEF or X-VLM, or for a fork of it.

python -m patches official check  BASELINE CHECKOUT [--fuzzy]   # the files' states; changes nothing
python -m patches official apply  BASELINE CHECKOUT [--fuzzy] [--shims]
python -m patches official remove BASELINE CHECKOUT             # the bytes of before
python -m patches official learn  BASELINE CHECKOUT             # record what --fuzzy needs, from official files
python -m patches official write                                # patch files anew, after a change of code_bases.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from patches.marks import PatchError
from patches.official import neighbours
from patches.official.checkout import Plan, plan_apply, plan_remove, states
from patches.official.code_bases import CODE_BASES, SHIMS
from patches.official.lines import blob
from patches.official.patch_file import FilePatch, dumps
from patches.official.source import files_beside, hashes_path, locator, patch_path, read_patch
from patches.official.transaction import change_files
from patches.tree import ROOT


def check(options: argparse.Namespace, root: Path) -> None:
    """Print each file's state and whether `apply` would do; nothing is written."""
    print("\n".join(states(options.checkout, options.baseline, read_patch(options.baseline, root, options.shims))))
    plan = _apply_plan(options, root)
    print(
        "\n".join([*plan.notes, f"`apply` would write {len(plan.contents)} files"] if plan.contents else ["has EPIC"])
    )


def apply(options: argparse.Namespace, root: Path) -> None:
    """Insert EPIC's lines and put its files beside."""
    plan = _apply_plan(options, root)
    if not plan.contents:
        print(f"{options.checkout} has EPIC already")
        return
    print("\n".join(plan.notes))
    change_files(options.checkout, plan.contents)
    undo = f"python -m patches official remove {options.baseline} {options.checkout}"
    print(f"{options.checkout} has EPIC; take it out with: {undo}")


def _apply_plan(options: argparse.Namespace, root: Path) -> Plan:
    wanted = read_patch(options.baseline, root, options.shims)
    beside = files_beside(options.baseline, root, options.shims)
    locate = locator(options.baseline, root) if options.fuzzy else None
    try:
        return plan_apply(options.checkout, options.baseline, wanted, beside, locate)
    except PatchError as error:
        if "is not the official file" not in str(error):
            raise
        advice = f"check out commit {wanted.commit} of {wanted.repository}, or, for a fork with changes, add --fuzzy"
        raise PatchError(f"{error}; {advice}") from None


def remove(options: argparse.Namespace, root: Path) -> None:
    """Take EPIC's lines and files out."""
    shipped, beside = read_patch(options.baseline, root), files_beside(options.baseline, root)
    plan = plan_remove(options.checkout, options.baseline, shipped, beside)
    if not plan.contents:
        print(f"{options.checkout} has no EPIC")
        return
    change_files(options.checkout, plan.contents)
    print("\n".join([*plan.notes, f"{options.checkout} is without EPIC"]))


def learn(options: argparse.Namespace, root: Path) -> None:
    """Record the hashes of the lines around the places, of official files or their blobs in the git history."""
    patch = read_patch(options.baseline, root, patch_path(options.baseline, root, shims=True).is_file())
    places = {}
    for file in patch.files:
        official = _official(options.checkout, file)
        places[file.path] = {after: neighbours.around(official, after) for after, _ in file.insertions}
    path = hashes_path(options.baseline, root)
    neighbours.write(path, places)
    print(f"{path.relative_to(root)}: {sum(map(len, places.values()))} places")


def _official(root: Path, file: FilePatch) -> bytes:
    path = root / file.path
    data = path.read_bytes() if path.is_file() else b""
    if blob(data) == file.blob:
        return data
    try:
        git = subprocess.run(["git", "-C", root, "cat-file", "blob", file.blob], capture_output=True, check=False)
    except FileNotFoundError:
        raise PatchError(f"{file.path} is not the official file, and there is no git to look for it") from None
    if git.returncode or blob(git.stdout) != file.blob:
        raise PatchError(f"{file.path} is not the official file, and the git history of {root} does not hold it")
    return git.stdout


def write(root: Path) -> None:
    """Write the patch files from the tables."""
    for shims, patches in ((False, CODE_BASES), (True, SHIMS)):
        for baseline, patch in patches.items():
            patch_path(baseline, root, shims).write_bytes(dumps(patch).encode())


COMMANDS = {"check": check, "apply": apply, "remove": remove, "learn": learn}


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Run the command with what the repository ``root`` has; return 0, or 1 if something is wrong."""
    description, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m patches official",
        description=description,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=[*COMMANDS, "write"])
    parser.add_argument("baseline", nargs="?", choices=list(CODE_BASES))
    parser.add_argument("checkout", nargs="?", type=Path, help="root of the official checkout, or of a fork")
    parser.add_argument("--fuzzy", action="store_true", help="find the places in changed files by their neighbours")
    parser.add_argument("--shims", action="store_true", help="also what official code needs with newer libraries")
    options = parser.parse_args(arguments)
    if options.command == "write":
        write(root)
        return 0
    if options.baseline is None or options.checkout is None:
        parser.error(f"{options.command} needs BASELINE and CHECKOUT")
    try:
        if not options.checkout.is_dir():
            raise PatchError(f"{options.checkout} is no folder; name the root of a checkout")
        COMMANDS[options.command](options, root)
    except (PatchError, OSError) as error:
        print("\n".join(f"error: {line}" for line in str(error).splitlines()), file=sys.stderr)
        return 1
    return 0
