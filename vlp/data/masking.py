"""Masking for masked language modelling, exactly the official rules.

Source: docs/official/meter.md §3.6 (METER, ViLT), docs/official/albef.md §3.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence

from transformers import PreTrainedTokenizerBase

IGNORED = -100  # label of a position that the loss skips
MAX_SELECTED = 512


def corrupt(
    ids: Sequence[int], selected: Iterable[int], mask_id: int, vocab_size: int, rng: random.Random
) -> tuple[list[int], list[int]]:
    """Corrupt selected positions of a text: 80 % become the mask token, 10 % a uniform draw from all ids, 10 % stay.

    Returns:
        The ids after masking, and the labels: the original id at selected positions, -100 elsewhere.
    """
    masked, labels = list(ids), [IGNORED] * len(ids)
    for position in selected:
        labels[position] = ids[position]
        if rng.random() < 0.8:
            masked[position] = mask_id
        elif rng.random() < 0.5:
            masked[position] = rng.randrange(vocab_size)
    return masked, labels


class TokenMasker:
    """Selects each token of a text with one probability, whatever word it belongs to, and corrupts it.

    Source: docs/official/albef.md §3.
    """

    def __init__(self, mask_id: int, vocab_size: int, spared: Collection[int], probability: float = 0.15) -> None:
        """
        Args:
            vocab_size: of the ids that a selected token may be replaced with.
            spared: ids that are never selected: [PAD] and [CLS].

        Raises:
            ValueError: ``probability`` is none.
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"mlm_probability is a probability, got {probability}")
        self.mask_id, self.vocab_size, self.spared, self.probability = mask_id, vocab_size, spared, probability

    def __call__(self, ids: Sequence[int], rng: random.Random) -> tuple[list[int], list[int]]:
        """Mask one text: the ids after masking, and the labels, -100 where nothing is selected."""
        selected = [i for i, token in enumerate(ids) if token not in self.spared and rng.random() < self.probability]
        return corrupt(ids, selected, self.mask_id, self.vocab_size, rng)


class MlmMasker:
    """Selects and corrupts tokens of one padded caption at a time.

    Whole-word masking (pre-training) takes a fixed number of positions, round(mlm_prob * length) with pads counted,
    word by word; special and pad positions among them are then given up, so a caption may end with none. A word is a
    token with the `##` pieces behind it: RoBERTa has none, so that each of its tokens, `<s>`, `</s>` and pads
    included, is a word of its own. Token masking (fine-tuning) selects each token that is neither a pad nor an opening
    or closing token with probability mlm_prob.
    Of the selected tokens 80 % become the mask token, 10 % a uniform draw from the whole vocabulary, 10 % stay.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, mlm_prob: float = 0.15, whole_word: bool = True) -> None:
        """
        Raises:
            ValueError: mlm_prob is not a probability, or the tokenizer has no mask or no pad token.
        """
        if not 0 <= mlm_prob <= 1:
            raise ValueError(f"mlm_prob is a probability, got {mlm_prob}")
        if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
            raise ValueError(f"masking needs a tokenizer with a mask and a pad token, got {type(tokenizer).__name__}")
        self.mlm_prob = mlm_prob
        self.whole_word = whole_word
        self.vocab_size = len(tokenizer)
        self.mask_id: int = tokenizer.mask_token_id
        tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(range(self.vocab_size)))]
        self._continuation = frozenset(i for i, token in enumerate(tokens) if token.startswith("##"))
        self._outside_words = frozenset(i for i, token in enumerate(tokens) if token in ("[CLS]", "[SEP]"))
        self._special = frozenset(tokenizer.all_special_ids)
        # Token masking spares these three alone: <unk> is a special token, too, and may be selected.
        spared = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
        self._spared = frozenset(i for i in spared if i is not None)

    def __call__(self, ids: Sequence[int], rng: random.Random) -> tuple[list[int], list[int]]:
        """Mask one caption.

        Args:
            ids: its token ids, special tokens and pads included.
            rng: the source of every draw.

        Returns:
            The ids after masking, and the labels: the original id at selected positions, -100 elsewhere.
        """
        return corrupt(ids, self.select(ids, rng), self.mask_id, self.vocab_size, rng)

    def select(self, ids: Sequence[int], rng: random.Random) -> list[int]:
        """Draw the positions that are masked, in the order of the draws that corrupt them."""
        return self._select_words(ids, rng) if self.whole_word else self._select_tokens(ids, rng)

    def _select_tokens(self, ids: Sequence[int], rng: random.Random) -> list[int]:
        return [i for i, token in enumerate(ids) if token not in self._spared and rng.random() < self.mlm_prob]

    def _select_words(self, ids: Sequence[int], rng: random.Random) -> list[int]:
        words: list[list[int]] = []
        for position, token in enumerate(ids):
            if token in self._outside_words:
                continue
            if words and token in self._continuation:
                words[-1].append(position)
            else:
                words.append([position])
        rng.shuffle(words)
        budget = min(MAX_SELECTED, max(1, round(len(ids) * self.mlm_prob)))
        taken: list[int] = []
        for word in words:
            if len(taken) == budget:
                break
            if len(taken) + len(word) <= budget:
                taken += word
        return [position for position in taken if ids[position] not in self._special]
