"""Tokenizers from vocabulary files of any name, such as those beside the fixtures."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerBase

from tests.parity.fixture import FIXTURES
from vlp.data.tokenizers import load_tokenizer


def tokenizer_from_files(vocab: str | Path, merges: str | Path | None = None) -> PreTrainedTokenizerBase:
    """A tokenizer from vocabulary files of any name: RoBERTa's vocab.json and merges.txt, or BERT's vocab.txt alone
    (lower-casing).

    Raises:
        OSError: a file does not exist or holds no vocabulary.
    """
    with folder_of_vocabulary(vocab, merges) as folder:
        return load_tokenizer(folder)


@contextmanager
def folder_of_vocabulary(vocab: str | Path, merges: str | Path | None = None) -> Iterator[Path]:
    """A folder of vocabulary files under the names that tokenizers have, while the context lasts."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(vocab, Path(folder, "vocab.txt" if merges is None else "vocab.json"))
        if merges is not None:
            shutil.copyfile(merges, Path(folder, "merges.txt"))
        yield Path(folder)


def save_text_files(folder: Path, width: int, inner: int) -> None:
    """Leave BERT's tokenizer with a small vocabulary in ``folder``, and a masked language model of one layer for it."""
    tokenizer = tokenizer_from_files(FIXTURES / "meter" / "tokenizer_bert_vocab.txt")
    tokenizer.save_pretrained(folder)
    sizes: dict[str, Any] = {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": 2}
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), num_hidden_layers=1, **sizes)).save_pretrained(folder)
