"""The tokenizer of ViLT's data fixtures, whose vocabulary file names the tokens of their texts alone."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tests.parity.replays import Fixture
from tests.tokenizers import tokenizer_from_files


def tokenizer(fixture: Fixture) -> PreTrainedTokenizerBase:
    """WordPiece over the token -> id file that ``inputs.vocab`` names; other ids are tokens that no text has."""
    ids: dict[str, int] = json.loads(fixture.file(fixture.inputs["vocab"]).read_text(encoding="utf-8"))
    tokens = [f"[unused{i}]" for i in range(max(ids.values()) + 1)]
    for token, number in ids.items():
        tokens[number] = token
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vocab.txt")
        path.write_text("\n".join(tokens), encoding="utf-8")
        return tokenizer_from_files(path)
