"""Texts of ALBEF and X-VLM: the ids ``[CLS] X`` without a closing ``[SEP]``.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vlp.data.json.cleaning import pre_caption as pre_caption
from vlp.data.json.cleaning import pre_question as pre_question
from vlp.data.json.fields import Row, text_or_texts
from vlp.data.tokenizers import load_tokenizer
from vlp.data.unknown_tokens import TextsRead

_NAMES = ("caption", "question", "sentence", "text")  # of a text in the rows of every kind


class Encoded(NamedTuple):
    """Texts for a model: int64 (B, n) ids, padded with the pad id, and masks, 1 = token, 0 = padding."""

    ids: Tensor
    masks: Tensor


def load_cls_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """BERT's tokenizer whose single text is ``[CLS] X``; a pair is ``[CLS] A [SEP] B [SEP]``.

    Raises:
        OSError: see :func:`load_tokenizer`.
        ValueError: the tokenizer has no [CLS], [SEP] or [PAD].
    """
    tokenizer = load_tokenizer(name_or_path)
    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    vocabulary = tokenizer.get_vocab()
    if lacking := [token for token in ("[CLS]", "[SEP]", "[PAD]", "[MASK]") if token not in vocabulary]:
        raise ValueError(f"text_encoder={name_or_path}: its tokenizer is not BERT's, it lacks {', '.join(lacking)}")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, vocabulary[token]) for token in (cls, sep)],
    )
    return tokenizer


def encode_cls(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    spelled: bool = False,
) -> Encoded:
    """Encode texts with a tokenizer of :func:`load_cls_tokenizer`, padded to the longest.

    Args:
        texts: at least one.
        max_length: tokens, ``[CLS]`` included, that a text is cut to. Where the official code does not cut, give the
            number of positions of the text encoder.
        spelled: a special token that a text spells ("[SEP]") is that token, else these characters.
    """
    encoded = tokenizer(
        list(texts),
        padding="longest",
        truncation=True,
        max_length=max_length,
        split_special_tokens=not spelled,
    )
    return Encoded(torch.tensor(encoded["input_ids"]), torch.tensor(encoded["attention_mask"]))


def texts_of(path: Path, rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, max_length: int = 512) -> TextsRead:
    """One text of each of some rows of a list, whatever it is called there, and its ids."""
    given = [row[name] for row in rows for name in _NAMES if not text_or_texts(row.get(name))]
    texts = [text if isinstance(text, str) else text[0] for text in given]
    encoded = tokenizer(
        [pre_caption(text) for text in texts], truncation=True, max_length=max_length, split_special_tokens=True
    )
    return TextsRead(str(path), texts, encoded["input_ids"])
