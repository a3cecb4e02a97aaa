"""The patch files: a unified diff without context that inserts only, so that no line of the official code is in it.

``git apply --unidiff-zero`` reads them too. Before the diff stands a header of our own, which git skips:

    EPIC for METER
    repository https://github.com/...
    commit <40 hex digits>
    added <path> <blob>          what `apply` put beside the official files; in the copy that it leaves in a checkout
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from patches.marks import PatchError
from patches.official.lines import Insertion

_HEX = "[0-9a-f]{40}"
_PATH = r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*"  # below the checkout: no "..", no leading "/"
_FILE = re.compile(
    rf"diff --git a/(?P<path>{_PATH}) b/(?P=path)\n"
    # The blob after the patch is left out: it is not known where the official file is not at hand.
    rf"index (?P<blob>{_HEX})\.\.\n"
    r"--- a/(?P=path)\n\+\+\+ b/(?P=path)\n(?P<hunks>(?:@@.*\n(?:\+.*\n)+)+)"
)
_HUNK = re.compile(r"@@ -(\d+),0 \+(\d+),(\d+) @@\n((?:\+.*\n)+)")
_HEADER = re.compile(
    rf"(?P<title>[^\n]+)\nrepository (?P<repository>\S+)\ncommit (?P<commit>{_HEX})\n"
    rf"(?P<added>(?:added {_PATH} {_HEX}\n)*)\n"
)


@dataclass(frozen=True)
class FilePatch:
    """What goes into one official file, which git knows as ``blob``."""

    path: str
    blob: str
    insertions: tuple[Insertion, ...]


@dataclass(frozen=True)
class OfficialPatch:
    """A patch of one official code base at ``commit``; ``added`` maps the files put beside to their blobs."""

    title: str
    repository: str
    commit: str
    files: tuple[FilePatch, ...]
    added: dict[str, str] = field(default_factory=dict)


def dumps(patch: OfficialPatch) -> str:
    """The patch file's text."""
    added = "".join(f"added {path} {blob}\n" for path, blob in sorted(patch.added.items()))
    header = f"{patch.title}\nrepository {patch.repository}\ncommit {patch.commit}\n{added}\n"
    return header + "".join(_file_text(file) for file in patch.files)


def _file_text(file: FilePatch) -> str:
    text = f"diff --git a/{file.path} b/{file.path}\nindex {file.blob}..\n"
    text += f"--- a/{file.path}\n+++ b/{file.path}\n"
    shift = 0
    for after, lines in file.insertions:
        text += f"@@ -{after},0 +{after + shift + 1},{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)
        shift += len(lines)
    return text


def loads(text: str, name: str) -> OfficialPatch:
    """Read a patch file; ``name`` is for messages.

    Raises:
        PatchError: it is none, or has a line that is neither header nor insertion, or numbers that do not agree.
    """
    header = _HEADER.match(text)
    if header is None:
        raise PatchError(f"{name} is no patch of official code: its header must be a title, repository and commit")
    files, position = [], header.end()
    while position < len(text):
        match = _FILE.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            raise PatchError(f"{name}: from line {line} on there is more than insertions without context")
        files.append(FilePatch(match["path"], match["blob"], _insertions(match["hunks"], f"{name}: {match['path']}")))
        position = match.end()
    added = (line.split()[1:] for line in header["added"].splitlines())
    return OfficialPatch(
        header["title"], header["repository"], header["commit"], tuple(files), {path: hash_ for path, hash_ in added}
    )


def _insertions(hunks: str, where: str) -> tuple[Insertion, ...]:
    result: list[Insertion] = []
    position, shift = 0, 0
    while position < len(hunks):
        match = _HUNK.match(hunks, position)
        if match is None:
            raise PatchError(f"{where}: a hunk that is not '@@ -LINE,0 +LINE,COUNT @@' with nothing behind it")
        after, start, count = (int(match[i]) for i in (1, 2, 3))
        lines = tuple(line[1:] for line in match[4].split("\n")[:-1])
        if count != len(lines) or start != after + shift + 1 or (result and after <= result[-1].after):
            raise PatchError(f"{where}: the numbers of hunk '@@ -{after},0' do not agree with its lines")
        if not lines[-1].strip():
            raise PatchError(f"{where}: an insertion ends with an empty line")
        result.append(Insertion(after, lines))
        position, shift = match.end(), shift + count
    return tuple(result)
