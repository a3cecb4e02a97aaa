"""X-VLM's official tables beside the fixtures."""

from __future__ import annotations

import csv

from tests.parity import golden
from tests.parity.fixture import FIXTURES, KeyTable

TABLES = FIXTURES / "xvlm"


def key_table(task: str) -> KeyTable:
    """Official key -> (shape, dtype) of a task's model, in official order."""
    return golden.keys(TABLES / f"keys_{task}.tsv")


def rows(table: str) -> list[dict[str, str]]:
    """The rows of a table by its columns."""
    with (TABLES / f"{table}.tsv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))
