"""Masking by words and spans: how many tokens, whole words, the shares of the three kinds, by brute force."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlp.data.span_masking import SpanMasker

CLS, MASK, SIZE = 1, 3, 1000
PIECES = frozenset(range(500, 600))  # continue a word
TEXTS = st.lists(st.sampled_from([*range(10, 30), *range(500, 510)]), min_size=1, max_size=39).map(
    lambda ids: [CLS, ids[0] if ids[0] < 500 else 10, *ids[1:]]
)


def masker(**settings: object) -> SpanMasker:
    return SpanMasker(MASK, SIZE, PIECES, **settings)  # type: ignore[arg-type]


def words(ids: list[int]) -> list[set[int]]:
    found: list[set[int]] = []
    for position, token in enumerate(ids[1:], start=1):
        if token in PIECES:
            found[-1].add(position)
        else:
            found.append({position})
    return found


@given(TEXTS, st.floats(0, 1), st.integers(1, 12), st.booleans(), st.integers(0, 1 << 30))
def test_the_number_is_the_official_one(ids: list[int], share: float, most: int, whole: bool, seed: int) -> None:
    chosen = masker(mask_prob=share, max_masks=most, whole_word=whole).select(ids, random.Random(seed))
    wanted = min(most, max(1, round(len(ids) * share)))
    assert len(chosen) == len(set(chosen)) == min(wanted, len(ids) - 1)
    assert all(0 < position < len(ids) for position in chosen)


@given(TEXTS, st.integers(0, 1 << 30))
def test_one_word_at_most_is_masked_in_part(ids: list[int], seed: int) -> None:
    """Without spans: of the words that are begun, one is drawn from where it is too long."""
    settings = {"mask_prob": 0.5, "max_masks": 40, "skipgram_prb": 0.0}
    chosen = set(masker(**settings).select(ids, random.Random(seed)))
    longest = max(map(len, words(ids)))
    all_of_them = masker(**{**settings, "mask_prob": 1.0}).select(ids, random.Random(seed))
    assert set(all_of_them) == set(range(1, len(ids)))
    if longest == 1:
        assert len(chosen) == min(max(1, round(len(ids) / 2)), len(ids) - 1)


def test_a_word_is_masked_as_a_whole_where_it_fits() -> None:
    ids = [CLS, 10, 500, 501, *range(11, 30)]
    one = masker(mask_prob=0.15, skipgram_prb=0.0)  # 3 of 23
    drawn = [frozenset(one.select(ids, random.Random(seed))) for seed in range(300)]
    parts = Counter(len({1, 2, 3} & chosen) for chosen in drawn)
    assert parts[3] and max(map(len, drawn)) == 3
    pieces = masker(mask_prob=0.15, skipgram_prb=0.0, whole_word=False)
    alone = [len({1, 2, 3} & set(pieces.select(ids, random.Random(seed)))) for seed in range(300)]
    assert Counter(alone)[1] > parts[1]


def test_spans_are_neighbours() -> None:
    """One start and its span are enough, unless the text ends there."""
    ids = [CLS, *range(10, 30)]
    for prb, size in ((1.0, 2), (1.0, 1), (0.0, 2)):
        one = masker(mask_prob=0.1, skipgram_prb=prb, skipgram_size=size)  # 2 of 21
        drawn = [sorted(one.select(ids, random.Random(seed))) for seed in range(300)]
        apart = [second - first > 1 for first, second in drawn if 20 not in (first, second)]
        assert any(apart) == (prb * size < 2)


def test_of_the_chosen_tokens_most_are_masked_some_replaced_some_stay() -> None:
    ids = [CLS, *range(10, 50)]
    one, rng = masker(), random.Random(0)
    kinds: Counter[str] = Counter()
    for _ in range(4000):
        masked, labels = one(ids, rng)
        for before, after, label in zip(ids, masked, labels, strict=True):
            assert label in (-100, before) and (label != -100 or before == after)
            if label != -100:
                kinds["mask" if after == MASK else "stay" if after == before else "other"] += 1
    shares = np.array([kinds[kind] for kind in ("mask", "other", "stay")]) / sum(kinds.values())
    assert np.allclose(shares, (0.8, 0.1, 0.1), atol=0.01)


@pytest.mark.parametrize("settings", [{"mask_prob": 1.5}, {"skipgram_prb": -0.1}, {"max_masks": 0}])
def test_what_no_masking_can_be_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        masker(**settings)
