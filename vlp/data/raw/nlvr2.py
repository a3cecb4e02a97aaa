"""NLVR2: JSON lines, one statement about two images a line, beside the image folders.

Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vlp.data.conversion.skips import Skips
from vlp.data.errors import DataError
from vlp.data.raw.lazy import LazyRecords
from vlp.data.raw.records import Statement, StatementPair
from vlp.data.raw.source import Source, iter_json_lines

_ANNOTATIONS = {
    "train": "nlvr2/data/train.json",
    "dev": "nlvr2/data/dev.json",
    "test1": "nlvr2/data/test1.json",
    "balanced_dev": "nlvr2/data/balanced/balanced_dev.json",
    "balanced_test1": "nlvr2/data/balanced/balanced_test1.json",
    "unbalanced_dev": "nlvr2/data/unbalanced/unbalanced_dev.json",
    "unbalanced_test1": "nlvr2/data/unbalanced/unbalanced_test1.json",
}


@dataclass
class _Pair:
    folder: str
    statements: list[Statement] = field(default_factory=list)


def read_nlvr2(source: Source, splits: Sequence[str] = tuple(_ANNOTATIONS)) -> dict[str, LazyRecords[StatementPair]]:
    """Read ``splits`` of train, dev, test1 and the balanced and unbalanced versions of the last two, if they are there.

    An image pair comes once, with all its statements, in file order.
    """
    files = {split: _ANNOTATIONS[split] for split in splits}
    return {split: _read(source, split, name) for split, name in files.items() if source.optional(split, name)}


def _read(source: Source, split: str, annotation: str) -> LazyRecords[StatementPair]:
    pairs = _read_pairs(source, split, annotation)
    source.found[f"image pairs in {split}"] = len(pairs)
    names = list(pairs)

    def build(number: int, _: Skips) -> StatementPair:
        name = names[number]
        left, right = (source.path(pairs[name].folder, f"{name}-img{side}.png") for side in (0, 1))
        return StatementPair(left, right, name, split, pairs[name].statements)

    return LazyRecords(range(len(pairs)), build)


def _read_pairs(source: Source, split: str, annotation: str) -> dict[str, _Pair]:
    """Group the statements by identifier without its last part: pair name -> image folder and statements."""
    path = source.root / annotation
    pairs: dict[str, _Pair] = {}
    for number, line in iter_json_lines(path):
        try:
            identifier = source.text(line["identifier"], f"{path.name}, line {number}")
            name = "-".join(identifier.split("-")[:-1])
            folder = f"images/train/{line['directory']}" if split == "train" else split.rpartition("_")[2]
            statement = Statement(source.text(line["sentence"], identifier), str(line["label"]))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: not in NLVR2's format (identifier, sentence, label, directory): {error!r}"
            ) from error
        if statement.label not in ("True", "False"):
            source.skips.add(f"label {statement.label!r}", f"{path.name}, line {number}")
            continue
        pairs.setdefault(name, _Pair(folder)).statements.append(statement)
    return pairs
