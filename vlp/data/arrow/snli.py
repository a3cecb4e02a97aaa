"""SNLI-VE -> ``snli_{split}``: one row per image with all its sentence pairs, in file order.

Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vlp.data.arrow.writer import SNLI, Row, Skips, Table
from vlp.data.errors import DataError
from vlp.data.raw.source import Source, iter_json_lines

_LABELS = {"contradiction": 0, "neutral": 1, "entailment": 2}


@dataclass
class _Group:
    sentences: list[list[str]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


def plan_snli(source: Source) -> list[Table]:
    """Plan snli_{train,dev,test} from ``snli_ve_{split}.jsonl`` and ``Flickr30K/images``."""
    splits = ("train", "dev", "test")
    return [_plan(source, split) for split in splits if source.optional(split, f"snli_ve_{split}.jsonl")]


def _plan(source: Source, split: str) -> Table:
    groups = _read(source, split)
    source.found[f"annotated images in {split}"] = len(groups)

    def rows(_: Skips) -> Iterator[Row]:
        for image_id, group in groups.items():
            yield {
                "image": source.path("Flickr30K/images", f"{image_id}.jpg"),
                "sentences": group.sentences,
                "labels": group.labels,
            }

    return Table(f"snli_{split}", SNLI, rows, len(groups), texts="sentences")


def _read(source: Source, split: str) -> dict[str, _Group]:
    """Group the pairs by Flickr30k image: id -> [premise, hypothesis] pairs and labels."""
    path = source.root / f"snli_ve_{split}.jsonl"
    groups: dict[str, _Group] = {}
    for number, line in iter_json_lines(path):
        try:
            image_id, pair, label = (
                str(line["Flickr30K_ID"]),
                [line["sentence1"], line["sentence2"]],
                line["gold_label"],
            )
        except KeyError as error:
            raise DataError(
                f"{path}, line {number}: not in SNLI-VE's format (Flickr30K_ID, sentence1, sentence2, gold_label): "
                f"{error!r} is missing"
            ) from error
        if label not in _LABELS:
            source.skips.add(f"gold label {label!r}", f"{path.name}, line {number}")
            continue
        group = groups.setdefault(image_id, _Group())
        group.sentences.append(pair)
        group.labels.append(_LABELS[label])
    return groups
