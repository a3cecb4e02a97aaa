"""Files of JSON lines, cut into chunks of bytes: any line can be found without an index, and no file is scanned.

Source: docs/official/xvlm.md §3.2.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from vlp.data.errors import DataError
from vlp.data.json.rows import names_of
from vlp.files import regular

_CHUNKS = 1 << 14  # at most about so many, as long as none is larger than the largest
_SMALLEST, _LARGEST = 1 << 9, 1 << 22  # bytes of a chunk
LONGEST = 1 << 26  # bytes of a line: what is no text of lines must not fill the memory
_MARK = "_SUCCESS"
_REMOTE = ("hdfs://", "s3://", "gs://", "http://", "https://")


class Line(NamedTuple):
    """A line that is not empty.

    Attributes:
        file: the number of its file.
        offset: of its first byte in the file.
        data: its bytes; None where they are more than :data:`LONGEST`.
    """

    file: int
    offset: int
    data: bytes | None


class JsonLines:
    """The lines of files and folders, in chunks.

    All files' bytes are cut into chunks of one size; a line belongs to the chunk in which its first byte lies, so that
    the chunks together hold each line once, however long lines and chunks are.

    Attributes:
        files: every file, those of a folder in the order of their names.
        names: the name of each, that of what was given (of two with one stem the second is ``stem#2``) and, of a
            folder's files, their own behind it.
        groups: of each file the name of what was given.
        chunks: their number.
    """

    def __init__(self, paths: Sequence[str | Path], key: str = "train_file", chunk: int | None = None) -> None:
        """
        Args:
            paths: files, and folders of which every file is taken; hidden ones and names with "_SUCCESS" in them are
                left out.
            key: the configuration key that names them, for messages.
            chunk: bytes of a chunk; by default they depend on those of all files.

        Raises:
            DataError: none is given, one is not there or not on this machine's disks, or all are empty.
        """
        self.key = key
        self.files: list[Path] = []
        self.names: list[str] = []
        self.groups: list[str] = []
        for path, name in zip(paths, names_of(paths), strict=True):
            self._add(path, name)
        if not self.files:
            raise DataError(f"{key} names no file: give at least one file of JSON lines, or a folder of them")
        self._sizes = [path.stat().st_size for path in self.files]
        if not (total := sum(self._sizes)):
            raise DataError(f"{key}: {', '.join(map(str, paths))[:200]} holds no row: the files are empty")
        self.chunk = chunk or min(max(total // _CHUNKS, _SMALLEST), _LARGEST)
        self._ends = list(accumulate(-(-size // self.chunk) for size in self._sizes))
        self.chunks = self._ends[-1]

    def _add(self, given: str | Path, name: str) -> None:
        if str(given).startswith(_REMOTE):
            raise DataError(
                f"{self.key}: {given} is not on a local disk: mount it, or copy it here (`hdfs dfs -get`), and give "
                "that path"
            )
        path = Path(given)
        if path.is_dir():
            files = sorted(entry for entry in path.iterdir() if entry.is_file() and not _left_out(entry))
            if not files:
                raise DataError(f"{self.key}: the folder {path} holds no file")
            self.names += [f"{name}/{entry.name}" for entry in files]
        elif path.is_file():
            files = [] if _left_out(path) else [path]
            self.names += [name] * len(files)
        else:
            raise DataError(f"{self.key}: {path} {'is no regular file' if path.exists() else 'not found'}")
        self.files += files
        self.groups += [name] * len(files)

    def identity(self) -> list[list[Any]]:
        """What a position belongs to: name and bytes of every file."""
        return [[path.name, size] for path, size in zip(self.files, self._sizes, strict=True)]

    def read(self, number: int) -> list[Line]:
        """The lines of chunk ``number``, in their order.

        Raises:
            DataError: the file can no longer be read.
        """
        file = bisect_right(self._ends, number)
        first = number - (self._ends[file - 1] if file else 0)
        start = first * self.chunk
        try:
            return list(_lines(self.files[file], file, start, min(start + self.chunk, self._sizes[file])))
        except OSError as error:
            raise DataError(f"{self.files[file]}: {error.strerror or error}; every file must stay there") from error

    def first(self, file: int, number: int) -> list[Line]:
        """The first ``number`` lines of a file, fewer if it has no more within its first chunk."""
        end = min(self._sizes[file], _LARGEST)
        lines = _lines(self.files[file], file, 0, end)
        return [line for line, _ in zip(lines, range(number), strict=False)]

    def describe(self, line: Line) -> str:
        """A line for messages: the file, and from which byte on it stands there."""
        return f"{self.files[line.file]}: line at byte {line.offset}"


def _lines(path: Path, file: int, start: int, end: int) -> Iterator[Line]:
    """The lines whose first byte lies in [start, end) of a file."""
    with open(regular(path), "rb") as handle:
        offset = start
        if start:  # behind the line that began before
            handle.seek(start - 1)
            offset += len(handle.readline(end - start + 1)) - 1
        while offset < end:
            data = handle.readline(LONGEST + 1)
            if not data:
                return
            if len(data) > LONGEST and not data.endswith(b"\n"):
                yield Line(file, offset, None)  # and it ends behind this chunk, which is smaller
            elif data.strip():
                yield Line(file, offset, data)
            offset += len(data)


def _left_out(path: Path) -> bool:
    return _MARK in path.name or path.name.startswith(".")
