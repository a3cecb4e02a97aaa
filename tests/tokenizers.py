"""Tokenizers from vocabulary files of any name, such as those beside the fixtures."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedTokenizerBase

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
