"""Neutral records -> rows of the official tables; the rows of VQAv2 are in ``vqa.py``.

Source: docs/official/meter.md §3.1.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from vlp.data.arrow.writer import ArchivedImage, Row, Table
from vlp.data.raw.lazy import Record, Records
from vlp.data.raw.records import CaptionedImage, EntailmentImage, RegionImage, StatementPair

ENTAILMENT_LABELS = {"contradiction": 0, "neutral": 1, "entailment": 2}


def table_of(
    name: str,
    schema: pa.Schema,
    records: Records[Record],
    row: Callable[[Record], Row],
    texts: str = "caption",
    shard_of: str | None = None,
) -> Table:
    """Plan the table of ``records``, one row each; ``texts`` and ``shard_of`` are those of :class:`Table`."""
    return Table(name, schema, lambda skips: map(row, records.read(skips)), len(records), texts, shard_of)


def caption_row(image: CaptionedImage) -> Row:
    """COCO, Flickr30k, CC3M, SBU, CC12M: an image with its captions."""
    held = image.path if image.data is None else ArchivedImage(image.path, image.data)
    return {"image": held, "caption": image.captions, "image_id": image.image_id, "split": image.split}


def region_row(image: RegionImage) -> Row:
    """Visual Genome: every region phrase is a caption, its box lies beside it."""
    return {
        "image": image.path,
        "caption": [region.phrase for region in image.regions],
        "width": [region.width for region in image.regions],
        "height": [region.height for region in image.regions],
        "x": [region.x for region in image.regions],
        "y": [region.y for region in image.regions],
        "image_id": image.image_id,
    }


def statement_row(pair: StatementPair) -> Row:
    """NLVR2: two images with all statements about them; the column of the statements is called questions."""
    return {
        "image_0": pair.left,
        "image_1": pair.right,
        "questions": [statement.sentence for statement in pair.statements],
        "answers": [statement.label for statement in pair.statements],
        "identifier": pair.pair_id,
    }


def entailment_row(image: EntailmentImage) -> Row:
    """SNLI-VE: an image with all its [premise, hypothesis] pairs and their labels."""
    return {
        "image": image.path,
        "sentences": [[entailment.premise, entailment.hypothesis] for entailment in image.entailments],
        "labels": [ENTAILMENT_LABELS[entailment.label] for entailment in image.entailments],
    }
