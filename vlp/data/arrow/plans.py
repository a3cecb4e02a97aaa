"""Which tables each dataset is converted to. A plan reads the annotations; images are read when a table is written.

Source: docs/official/meter.md §3.9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from vlp.data.arrow.registry import SHARD
from vlp.data.arrow.rows import caption_row, entailment_row, region_row, statement_row, table_of
from vlp.data.arrow.vqa import plan_vqa
from vlp.data.arrow.writer import CAPTION, NLVR2, SNLI, VG, Row, Table
from vlp.data.raw.karpathy import read_coco, read_f30k
from vlp.data.raw.lazy import Record, Records
from vlp.data.raw.nlvr2 import read_nlvr2
from vlp.data.raw.records import CaptionedImage
from vlp.data.raw.snli import read_snli
from vlp.data.raw.source import Source
from vlp.data.raw.vg import read_vg
from vlp.data.raw.web import read_cc12m, read_gcc, read_sbu

SHARD_IMAGES = 100_000


def split_tables(
    prefix: str,
    schema: pa.Schema,
    row: Callable[[Record], Row],
    splits: Mapping[str, Records[Record]],
    texts: str = "caption",
) -> list[Table]:
    """Plan ``{prefix}_{split}`` for every split."""
    return [table_of(f"{prefix}_{split}", schema, records, row, texts) for split, records in splits.items()]


def shard_tables(pattern: str, splits: Mapping[str, Records[CaptionedImage]]) -> list[Table]:
    """Plan shards of 100 000 images, called ``pattern`` with the number for ``{i}`` and the split for ``{split}``."""
    tables = []
    for split, records in splits.items():
        shards = pattern.replace("{split}", split)
        for i in range(len(records) // SHARD_IMAGES + 1):  # as upstream: an exact multiple has an empty last shard
            part = records[i * SHARD_IMAGES : (i + 1) * SHARD_IMAGES]
            tables.append(table_of(shards.replace(SHARD, str(i)), CAPTION, part, caption_row, shard_of=shards))
    return tables


# Dataset -> function of the raw download and of the Arrow folder, which VQAv2 reads its val table from.
PLANS: dict[str, Callable[[Source, Path], list[Table]]] = {
    "coco": lambda raw, _: split_tables("coco_caption_karpathy", CAPTION, caption_row, read_coco(raw)),
    "f30k": lambda raw, _: split_tables("f30k_caption_karpathy", CAPTION, caption_row, read_f30k(raw)),
    "vg": lambda raw, _: [table_of("vg", VG, read_vg(raw), region_row)],
    "sbu": lambda raw, _: shard_tables(f"sbu_{SHARD}", read_sbu(raw)),
    "gcc": lambda raw, _: shard_tables(f"conceptual_caption_{{split}}_{SHARD}", read_gcc(raw)),
    "cc12m": lambda raw, _: shard_tables(f"cc12m_{SHARD}", read_cc12m(raw)),
    "nlvr2": lambda raw, _: split_tables("nlvr2", NLVR2, statement_row, read_nlvr2(raw), texts="questions"),
    "snli": lambda raw, _: split_tables("snli", SNLI, entailment_row, read_snli(raw), texts="sentences"),
    "vqa": plan_vqa,
}
