"""Sizes of language models that a few captions are fitted with."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, Any] = {
    "width": 32,
    "heads": 2,
    "vocab_size": 400,
    "batch_size": 32,
    "max_length": 16,
    "held_out": 0.3,
}
