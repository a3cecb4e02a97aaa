"""Texts of rows: cleaned, tokenised, cut, masked.

Source: docs/official/xvlm.md §3.3, §3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vlp.data.collate import Batch
from vlp.data.draws import SampleKey
from vlp.data.json.fields import Row
from vlp.data.json.text import pre_caption
from vlp.data.jsonl.lines import JsonLines
from vlp.data.jsonl.rows import RowError, parsed
from vlp.data.masking import IGNORED
from vlp.data.span_masking import SpanMasker
from vlp.data.unknown_tokens import LOOKED_AT, TextsRead


class RowText(NamedTuple):
    """A text: as it was cleaned, its ids, and what masking makes of them, empty where nothing masks."""

    text: str
    ids: list[int]
    ids_mlm: list[int]
    labels_mlm: list[int]


class TextReader:
    """A caption -> ``[CLS]`` and its pieces, ``max_tokens`` at most, without a closing ``[SEP]``.

    With ``eos`` the pieces are cut by one more and ``[SEP]`` closes them. A ``tokenized`` caption is pieces with single
    spaces between them, which are neither cleaned nor cut into pieces again.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        masker: SpanMasker | None,
        *,
        max_words: int,
        max_tokens: int,
        tokenized: bool = False,
        eos: bool = False,
    ) -> None:
        """``tokenizer`` is BERT's; without ``masker`` nothing is masked."""
        self.tokenizer, self.masker = tokenizer, masker
        self.max_words, self.max_tokens, self.tokenized, self.eos = max_words, max_tokens, tokenized, eos

    def __call__(self, caption: str, key: SampleKey, purpose: str = "mlm text") -> RowText:
        """Read one text; its masks are drawn from ``key`` for ``purpose``.

        Raises:
            RowError: no piece is left of it.
        """
        text, ids = self.encode(caption)
        return RowText(text, ids, *(self.masker(ids, key.rng(purpose)) if self.masker else ([], [])))

    def encode(self, caption: str) -> tuple[str, list[int]]:
        """The cleaned text, and its ids.

        Raises:
            RowError: no piece is left of it.
        """
        tokenizer: Any = self.tokenizer
        if self.tokenized:
            text = caption.strip()
            ids = tokenizer.convert_tokens_to_ids(text.split(" ")) if text else []
        else:
            text = pre_caption(caption, self.max_words)
            ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if not ids:
            raise RowError(f"the caption {caption[:60]!r} has no word")
        ids = [tokenizer.cls_token_id, *ids]
        if self.eos:
            return text, [*ids[: self.max_tokens - 1], tokenizer.sep_token_id]
        return text, ids[: self.max_tokens]


def texts_of(lines: JsonLines, file: int, reader: TextReader, captions: Callable[[Row], Sequence[str]]) -> TextsRead:
    """The first texts of a file, and their ids; what cannot be read is left out.

    ``captions`` gives the texts of a row.
    """
    texts: list[str] = []
    ids: list[list[int]] = []
    for line in lines.first(file, LOOKED_AT):
        with suppress(RowError):
            for caption in captions(parsed(line))[: LOOKED_AT - len(texts)]:
                with suppress(RowError):
                    ids.append(reader.encode(caption)[1])
                    texts.append(caption)
    return TextsRead(str(lines.files[file]), texts, ids, reader.tokenized)


def masker_of(tokenizer: PreTrainedTokenizerBase, **settings: Any) -> SpanMasker:
    """The masker of BERT's tokenizer; ``settings`` are those of :class:`SpanMasker`."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    continuations = frozenset(number for number, piece in enumerate(pieces) if str(piece).startswith("##"))
    assert tokenizer.mask_token_id is not None
    return SpanMasker(tokenizer.mask_token_id, len(tokenizer), continuations, **settings)


def text_batch(texts: Sequence[RowText], pad: int) -> Batch:
    """Texts of one batch, padded to the longest.

    Returns:
        ``text``: list; ``text_ids``, ``text_masks`` (1 = token): int64 (B, n); of masked texts also ``text_ids_mlm``
        and ``text_labels_mlm``, -100 where nothing is selected.
    """
    batch = {
        "text": [text.text for text in texts],
        "text_ids": _padded([text.ids for text in texts], pad),
        "text_masks": _padded([[1] * len(text.ids) for text in texts], 0),
    }
    if texts[0].ids_mlm:
        batch["text_ids_mlm"] = _padded([text.ids_mlm for text in texts], pad)
        batch["text_labels_mlm"] = _padded([text.labels_mlm for text in texts], IGNORED)
    return batch


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
