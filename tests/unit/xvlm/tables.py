"""X-VLM's official tables beside the fixtures."""

from __future__ import annotations

from tests.parity import golden
from tests.parity.fixture import FIXTURES, KeyTable

TABLES = FIXTURES / "xvlm"


def key_table(task: str) -> KeyTable:
    """Official key -> (shape, dtype) of a task's model, in official order."""
    return golden.keys(TABLES / f"keys_{task}.tsv")
