"""Masking of words and short spans, as X-VLM does it.

Source: docs/official/xvlm.md §3.4.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from vlp.data.masking import corrupt


class SpanMasker:
    """Selects a fixed number of tokens of a text, by words and now and then by spans, and corrupts them.

    Of n tokens, ``[CLS]`` counted, k = min(max_masks, max(1, round(n mask_prob))) are selected, rounded to the even
    number where two are equally near. Starts are taken in random order until k are gathered; a start takes a span of 2
    to ``skipgram_size`` tokens with probability ``skipgram_prb``, else one token. With ``whole_word`` a span grows to
    the beginning and the end of its words. Of more than k, k are drawn, so that a word may be masked in part.
    """

    def __init__(
        self,
        mask_id: int,
        vocab_size: int,
        continuations: Collection[int],
        *,
        mask_prob: float = 0.25,
        max_masks: int = 8,
        whole_word: bool = True,
        skipgram_prb: float = 0.2,
        skipgram_size: int = 3,
    ) -> None:
        """
        Args:
            vocab_size: of the ids that a selected token may be replaced with.
            continuations: ids of the pieces that begin with ``##``.

        Raises:
            ValueError: a probability is none, or no token may be masked.
        """
        for name, share in (("mask_prob", mask_prob), ("skipgram_prb", skipgram_prb)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a probability, got {share}")
        if max_masks < 1:
            raise ValueError(f"max_masks={max_masks}: a text has one masked token at least")
        self.mask_id, self.vocab_size, self.continuations = mask_id, vocab_size, continuations
        self.mask_prob, self.max_masks, self.whole_word = mask_prob, max_masks, whole_word
        self.skipgram_prb, self.skipgram_size = skipgram_prb, skipgram_size

    def __call__(self, ids: Sequence[int], rng: random.Random) -> tuple[list[int], list[int]]:
        """Mask one text ``[CLS] X``: the ids after masking, and the labels, -100 where nothing is selected."""
        return corrupt(ids, self.select(ids, rng), self.mask_id, self.vocab_size, rng)

    def number(self, tokens: int) -> int:
        """How many of a text's tokens are selected."""
        return min(self.max_masks, max(1, round(tokens * self.mask_prob)))

    def select(self, ids: Sequence[int], rng: random.Random) -> list[int]:
        """The positions that are masked."""
        wanted, starts = self.number(len(ids)), list(range(1, len(ids)))
        rng.shuffle(starts)
        taken: dict[int, None] = {}
        for start in starts:
            if len(taken) >= wanted:
                break
            if start not in taken:
                taken |= dict.fromkeys(self._span(ids, start, rng))
        chosen = list(taken)
        if len(chosen) > wanted:
            rng.shuffle(chosen)
        return chosen[:wanted]

    def _span(self, ids: Sequence[int], start: int, rng: random.Random) -> range:
        """The positions that ``start`` takes; ``[CLS]`` and what lies behind the text are none."""
        length = 1
        if self.skipgram_size >= 2 and rng.random() < self.skipgram_prb:
            length = rng.randint(2, self.skipgram_size)
        end = start + length
        if self.whole_word:
            while start > 1 and ids[start] in self.continuations:
                start -= 1
            while end < len(ids) and ids[end] in self.continuations:
                end += 1
        return range(start, min(end, len(ids)))
