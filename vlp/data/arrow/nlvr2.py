"""NLVR2 -> ``nlvr2_{split}``: one row per image pair, with all its sentences, in file order.

Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vlp.data.arrow.writer import NLVR2, Row, Skips, Table
from vlp.data.errors import DataError
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
    sentences: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def plan_nlvr2(source: Source) -> list[Table]:
    """Plan nlvr2_{train,dev,test1} and the balanced and unbalanced versions of the last two."""
    return [_plan(source, split, name) for split, name in _ANNOTATIONS.items() if source.optional(split, name)]


def _plan(source: Source, split: str, annotation: str) -> Table:
    pairs = _read(source, split, annotation)
    source.found[f"image pairs in {split}"] = len(pairs)

    def rows(_: Skips) -> Iterator[Row]:
        for name, pair in pairs.items():
            yield {
                "image_0": source.path(pair.folder, f"{name}-img0.png"),
                "image_1": source.path(pair.folder, f"{name}-img1.png"),
                "questions": pair.sentences,
                "answers": pair.labels,
                "identifier": name,
            }

    return Table(f"nlvr2_{split}", NLVR2, rows, len(pairs), texts="questions")


def _read(source: Source, split: str, annotation: str) -> dict[str, _Pair]:
    """Group the sentences by identifier without its last part: pair name -> sentences and labels."""
    path = source.root / annotation
    pairs: dict[str, _Pair] = {}
    for number, line in iter_json_lines(path):
        try:
            name = "-".join(line["identifier"].split("-")[:-1])
            folder = f"images/train/{line['directory']}" if split == "train" else split.rpartition("_")[2]
            pair = pairs.setdefault(name, _Pair(folder))
            pair.sentences.append(line["sentence"])
            pair.labels.append(str(line["label"]))
        except (KeyError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: not in NLVR2's format (identifier, sentence, label, directory): {error!r}"
            ) from error
    return pairs
