"""Write the captions of Arrow tables' training splits or of JSON lists, one a line, each once.

"LM (trained)" is fitted to them, and so is the language model of a small run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlp.data.arrow.registry import SPECS, table_files
from vlp.data.arrow.tables import ArrowTables
from vlp.data.json.kinds import CAPTIONS
from vlp.data.json.rows import JsonRows
from vlp.files import atomic_open

CAPTION_SETS = [name for name, spec in SPECS.items() if spec.kind == "caption"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where they are, which ones, and where to."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--arrow", type=Path, help="folder of the tables, METER's and ViLT's data_root")
    where.add_argument("--lists", nargs="+", type=Path, metavar="LIST", help="JSON lists of ALBEF or X-VLM")
    parser.add_argument("--datasets", nargs="+", choices=CAPTION_SETS, default=["coco"], help="of --arrow (coco)")
    parser.add_argument("--output", type=Path, required=True, help="the file")


def main(arguments: argparse.Namespace) -> int:
    """Write it."""
    seen: set[int] = set()  # hashes: the captions of 16M are a gigabyte
    with atomic_open(arguments.output) as handle:
        found = _listed(arguments.lists) if arguments.lists else _captions(arguments.arrow, arguments.datasets)
        for caption in found:
            line = " ".join(caption.split())
            if line and hash(line) not in seen:
                seen.add(hash(line))
                handle.write(f"{line}\n".encode())
    print(f"written: {arguments.output}, {len(seen)} captions")
    return 0


def _captions(root: Path, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        spec = SPECS[name]
        tables = ArrowTables(table_files(spec, "train", root), spec.text_column, spec.dedupe)
        yield from (tables.text(i) for i in range(tables.num_texts))


def _listed(lists: Sequence[Path]) -> Iterator[str]:
    for row in JsonRows(lists, CAPTIONS):
        yield from [row["caption"]] if isinstance(row["caption"], str) else row["caption"]
