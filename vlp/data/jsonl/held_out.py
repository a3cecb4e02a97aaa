"""Images that pre-training must not see, because a task is evaluated on them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar, cast

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.json_stream import iter_json_list
from vlp.data.raw.lazy import Records
from vlp.data.raw.refcoco import read_evaluated

_COCO = re.compile(r"COCO_(?:train|val|test)20\d\d_(\d{12})")
Record = TypeVar("Record")


@dataclass(frozen=True)
class HeldOut:
    """Names of image files without folder and extension, and the ids of those among them that are COCO's.

    COCO's images are known by their ids, whatever folder a data set has them in. ``coco_ids`` says which of Visual
    Genome's images are COCO's.
    """

    names: frozenset[str] = frozenset()
    coco: frozenset[int] = frozenset()
    coco_ids: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Sequence[Path]) -> HeldOut:
        """Read the images that JSON lists name (``image``, or ``images``), and those that RefCOCO evaluates on.

        Args:
            paths: lists, and folders that hold RefCOCO or its sisters as they are downloaded.

        Raises:
            DataError: a file is no list of rows with images, or a folder holds no RefCOCO.
        """
        names = frozenset(name for path in paths if not path.is_dir() for name in _names(path))
        matches = filter(None, map(_COCO.fullmatch, names))
        evaluated = (read_evaluated(path) for path in paths if path.is_dir())
        return cls(names, frozenset(int(match[1]) for match in matches).union(*evaluated))

    def __contains__(self, path: Path) -> bool:
        match = _COCO.fullmatch(path.stem)
        image = int(match[1]) if match else self.coco_ids.get(path.stem)
        return path.stem in self.names or image in self.coco

    def taken_from(self, records: Records[Record]) -> Records[Record]:
        """Return the records, which have a ``path``, without those of these images."""
        return _Others(records, self) if self.names or self.coco else records


@dataclass(frozen=True)
class _Others(Generic[Record]):
    """Records without those of images that are held out, which are counted."""

    records: Records[Record]
    held_out: HeldOut

    @property
    def archived(self) -> bool:
        return self.records.archived

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, part: slice) -> _Others[Record]:
        return _Others(self.records[part], self.held_out)

    def read(self, skips: Skips) -> Iterator[Record]:
        for record in self.records.read(skips):
            path = cast(Any, record).path
            if path in self.held_out:
                skips.add("image to be kept out (--exclude)", path.name)
            else:
                yield record


def _names(path: Path) -> Iterable[str]:
    for number, row in enumerate(iter_json_list(path)):
        images = row.get("images", [row.get("image")]) if isinstance(row, dict) else None
        if not isinstance(images, list) or not all(isinstance(image, str) and image for image in images):
            raise DataError(f"--exclude {path}: row {number} names no image; give lists such as refcoco+_test.json")
        yield from (PurePosixPath(image).stem for image in images)
