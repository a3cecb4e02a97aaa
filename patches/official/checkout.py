"""A checkout's files beside a patch: their states, and what `apply` and `remove` would change."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from patches.marks import PatchError
from patches.official.lines import Insertion, blob, inserted, odd_line_ends, places, split, touched, without
from patches.official.patch_file import FilePatch, OfficialPatch, dumps, loads

Locate = Callable[[bytes, FilePatch], Sequence[Insertion]]


@dataclass
class Plan:
    """New bytes of files (None: delete), in the order of writing, and lines that say what happens."""

    contents: dict[str, bytes | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def record_name(baseline: str) -> str:
    """The copy of the patch, as it was applied, that `apply` leaves in the checkout."""
    return f"epic_{baseline}.patch"


def read_record(root: Path, baseline: str) -> OfficialPatch | None:
    """What was applied to the checkout. Raises :class:`PatchError` if the record was changed by hand."""
    path = root / record_name(baseline)
    return loads(path.read_bytes().decode("utf-8", "replace"), str(path)) if path.is_file() else None


def read(root: Path, path: str) -> bytes:
    """An official file's bytes.

    Raises:
        PatchError: it is not there, is a link, or has other line ends than ours.
    """
    place = root / path
    if place.is_symlink():
        raise PatchError(f"{path} is a link; replace it by the file itself")
    if not place.is_file():
        raise PatchError(f"{path} is missing")
    data = place.read_bytes()
    if odd := odd_line_ends(data):
        raise PatchError(f"{path} has {odd}; check it out with `git config core.autocrlf input` or convert it")
    return data


def states(root: Path, baseline: str, shipped: OfficialPatch) -> list[str]:
    """A line for each file, by what was applied to the checkout or, where nothing was, by what would be."""
    return [f"{file.path}: {_state(root, file)}" for file in (read_record(root, baseline) or shipped).files]


def _state(root: Path, file: FilePatch) -> str:
    """Official, with EPIC, changed by the user, or what keeps it from being patched."""
    try:
        data = read(root, file.path)
    except PatchError as error:
        return str(error).removeprefix(f"{file.path} ")
    bare = without(data, file.insertions)
    if bare is not None:
        # Of a fork that --fuzzy patched, the record has the blob before it.
        return "patched" if blob(bare) == file.blob else "patched, and changed besides"
    if touched(data, file.insertions):
        return "some of EPIC's lines are there, others are not: take them out by hand"
    return "official" if blob(data) == file.blob else "changed: not the official file of the commit"


def plan_apply(
    root: Path, baseline: str, wanted: OfficialPatch, beside: dict[str, bytes], locate: Locate | None
) -> Plan:
    """What makes the checkout have ``wanted`` and the files ``beside``, whatever version of ours it has now.

    Args:
        root: the checkout.
        baseline: names the record.
        wanted: the patch for the official files.
        beside: files of ours to put into the checkout.
        locate: finds the places in a file that is not the official one; None: such a file is refused.

    Raises:
        PatchError: lists everything that stands in the way.
    """
    before = read_record(root, baseline)
    old = {file.path: file for file in before.files} if before else {}
    new = {file.path: file for file in wanted.files}
    wrong: list[str] = []
    files: list[FilePatch] = []
    # Ours first: a kill midway leaves files that nothing imports yet.
    plan = Plan(_beside(root, beside, before.added if before else {}, wrong))
    for path in dict.fromkeys([*new, *old]):
        try:
            data = read(root, path)
            file, contents = _patched(data, path, old.get(path), new.get(path), locate)
        except PatchError as error:
            wrong.append(str(error))
            continue
        if file is not None:
            files.append(file)
            plan.notes += _notes(file, contents)
        if contents != data:
            plan.contents[path] = contents
    if wrong:
        raise PatchError("\n".join([*wrong, "nothing was changed"]))
    record = replace(wanted, files=tuple(files), added={path: blob(data) for path, data in beside.items()})
    if plan.contents or before != record:
        plan.contents = {record_name(baseline): dumps(record).encode(), **plan.contents}
    return plan


def _notes(file: FilePatch, patched: bytes) -> list[str]:
    """Where the insertions stand in the patched file, each with the line before it."""
    lines, shift, notes = split(patched)[0], 0, []
    for after, new in file.insertions:
        start = after + shift
        before = lines[start - 1].decode("utf-8", "replace").strip() if start else "the start of the file"
        notes.append(f"{file.path}:{start + 1}: {len(new)} line{'s' * (len(new) > 1)} of EPIC behind: {before[:60]}")
        shift += len(new)
    return notes


def _patched(
    data: bytes, path: str, old: FilePatch | None, new: FilePatch | None, locate: Locate | None
) -> tuple[FilePatch | None, bytes]:
    """What the record says of the file afterwards, and its new bytes."""
    known = [file for file in (old, new) if file is not None]
    bare = without(data, known[0].insertions)
    if bare is None:
        if any(touched(data, file.insertions) for file in known):
            raise PatchError(f"{path}: some of EPIC's lines are there, others are not; take them out by hand")
        bare = data
    elif new is not None and _texts(known[0]) == _texts(new):
        return FilePatch(path, blob(bare), places(data, new.insertions)), data
    if new is None:
        return None, bare
    if blob(bare) == new.blob:
        file = new
    elif locate is not None:
        try:
            file = FilePatch(path, blob(bare), tuple(locate(bare, new)))
        except PatchError as error:
            raise PatchError(f"{path}: {error}; insert by hand what the patch has there") from None
    else:
        raise PatchError(f"{path} is not the official file: {new.blob} is, this is {blob(bare)}")
    contents = inserted(bare, file.insertions)
    if path.endswith(".py") and _compiles(bare) and not _compiles(contents):
        raise PatchError(f"{path}: with EPIC's lines it would be no valid Python")
    return file, contents


def _texts(file: FilePatch) -> list[tuple[str, ...]]:
    return [lines for _, lines in file.insertions]


def _compiles(source: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "checkout", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
    return True


def _beside(
    root: Path, beside: dict[str, bytes], recorded: dict[str, str], wrong: list[str]
) -> dict[str, bytes | None]:
    """Our own files to write and, of an older version, to delete."""
    contents: dict[str, bytes | None] = {}
    for path, data in beside.items():
        place = root / path
        here = place.read_bytes() if place.is_file() else None
        if here == data:
            continue
        taken = place.is_symlink() or place.exists()
        if taken and (here is None or blob(here) != recorded.get(path)):
            wrong.append(f"{path} is there already and is not what `apply` put there; move it away")
        contents[path] = data
    for path in recorded.keys() - beside.keys():
        if (root / path).is_file() and blob((root / path).read_bytes()) == recorded[path]:
            contents[path] = None
    return contents


def plan_remove(root: Path, baseline: str, shipped: OfficialPatch, beside: dict[str, bytes]) -> Plan:
    """What takes EPIC out of the checkout: by its record or, where `git apply` put the lines in, by ``shipped``.

    Raises:
        PatchError: lists the files from which our lines cannot be taken.
    """
    record = read_record(root, baseline)
    patch = record or shipped
    added = record.added if record else {path: blob(data) for path, data in beside.items()}
    plan, wrong = Plan(), []
    for file in patch.files:
        try:
            data = read(root, file.path)
        except PatchError as error:
            wrong.append(str(error))
            continue
        bare = without(data, file.insertions)
        if bare is not None:
            plan.contents[file.path] = bare
            own = "" if blob(bare) == file.blob else ", but for what was changed since"
            plan.notes.append(f"{file.path}: as it was before{own}")
        elif touched(data, file.insertions):
            wrong.append(f"{file.path}: some of EPIC's lines are there, others are not; take them out by hand")
    if wrong:
        raise PatchError("\n".join([*wrong, "nothing was changed"]))
    for path, hash_ in sorted(added.items()):
        place = root / path
        if place.is_file() and blob(place.read_bytes()) == hash_:
            plan.contents[path] = None
            compiled = place.parent.glob(f"__pycache__/{place.stem}.*.pyc")
            plan.contents |= {pyc.relative_to(root).as_posix(): None for pyc in compiled}
        elif place.exists():
            plan.notes.append(f"{path}: kept, for it was changed since")
    if record:
        plan.contents[record_name(baseline)] = None
    return plan
