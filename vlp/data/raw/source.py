"""Reading raw downloads: sorted listings, streamed JSON, and paths that stay inside the root."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError

T = TypeVar("T")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOO_DEEP = "is nested too deep to be an annotation file; download it again"


@dataclass
class Source:
    """A raw download, the seed of the order of its images, and what reading it tells.

    ``layout`` is which of the known layouts it has, ``found`` counts images and annotations, ``skips`` is what was
    left out while the annotations were matched with the images, ``not_written`` says why a split is absent,
    ``shards`` are names and bytes of the archives that images are read from.
    """

    root: Path
    seed: int
    layout: str = "official"
    found: dict[str, int] = field(default_factory=dict)
    skips: Skips = field(default_factory=Skips)
    not_written: dict[str, str] = field(default_factory=dict)
    shards: list[tuple[str, int]] = field(default_factory=list)

    def images(self, *folders: str) -> list[Path]:
        """List the files of ``folders`` that end in .jpg, sorted by path, then shuffled with the seed.

        Raises:
            DataError: none of the folders exists or all of them are empty.
        """
        paths: list[Path] = []
        for folder in folders:
            names = sorted(name for name in self.names(self.root / folder) if name.endswith(".jpg"))
            self.found[f"images in {folder}"] = len(names)
            paths += [self.root / folder / name for name in names]
        if not paths:
            expected = " or ".join(str(self.root / folder / "*.jpg") for folder in folders)
            raise DataError(f"no images found: expected {expected}; see docs/data.md for the raw layout")
        return self.shuffled(paths)

    def names(self, folder: Path) -> list[str]:
        """Return the names in ``folder`` in no particular order; a name that is no UTF-8 is left out and counted."""
        names = listing(folder)
        for name in names:
            if not _is_unicode(name):
                self.skips.add("file whose name is no UTF-8: rename it", str(folder / name))
        return [name for name in names if _is_unicode(name)]

    def text(self, value: Any, where: str) -> str:
        """Return a text of an annotation, as :func:`storable` does.

        Raises:
            TypeError: ``value`` is no text.
        """
        if not isinstance(value, str):
            raise TypeError(f"{str(value)[:80]} is no text")
        return storable(value, where, self.skips)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return ``items`` in an order that depends on the seed and on their number alone."""
        order = list(items)
        random.Random(self.seed).shuffle(order)
        return order

    def path(self, *parts: str) -> Path:
        """Join ``parts``, which may come from an annotation, to the root.

        Raises:
            DataError: the result would lie outside the root.
        """
        relative = os.path.normpath(os.path.join(*parts))
        if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
            raise DataError(f"annotation names a file outside {self.root}: {os.path.join(*parts)!r}")
        return self.root / relative

    def optional(self, what: str, *files: str) -> bool:
        """Say whether all of ``files`` exist; if not, note that ``what`` is not written and why."""
        missing = [name for name in files if not (self.root / name).exists()]
        if missing:
            self.not_written[what] = f"{', '.join(missing)} not found"
        return not missing


def storable(text: str, where: str, skips: Skips) -> str:
    """Return ``text`` with U+FFFD for every lone surrogate: JSON can spell one, no table can hold it."""
    if _is_unicode(text):
        return text
    skips.add("lone surrogate in a text, replaced by U+FFFD", where)
    return _SURROGATE.sub("\ufffd", text)


def listing(folder: Path) -> list[str]:
    """Return the names in ``folder`` in no particular order; an absent folder is empty."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one raises a DataError that names it."""
    require_file(path)
    try:
        return json.loads(path.read_bytes())
    except RecursionError:
        raise DataError(f"{path} {_TOO_DEEP}") from None
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}; download it again") from error


def require_file(path: Path) -> None:
    """Raise a DataError if ``path`` is missing or something that must not be read, such as a FIFO or a device."""
    if not path.exists():
        raise DataError(f"{path} not found; see docs/data.md for the raw layout")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file; see docs/data.md for the raw layout")


def iter_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number, object)`` of a JSON-lines file; empty lines are passed over.

    Raises:
        DataError: the file is missing or a line is not a JSON object; with the line number.
    """
    require_file(path)
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode())
            except RecursionError:
                raise DataError(f"{path}, line {number}: {_TOO_DEEP}") from None
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not valid JSON ({error})") from error
            if not isinstance(value, dict):
                raise DataError(f"{path}, line {number}: expected a JSON object")
            yield number, value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
