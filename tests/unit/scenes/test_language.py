"""The captions' statistics: which words the sentence gives away, and which only the image tells."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest

from scenes.corpus import corpus
from scenes.grammar import Grammar
from scenes.model import Caption
from scenes.sampling import sample_scene, sample_splits
from scenes.statistics import Statistics
from tests.unit.scenes.oracle import words


@pytest.fixture(scope="module")
def captions() -> list[Caption]:
    statistics, rng = Statistics(), random.Random(0)
    grammar = Grammar(statistics)
    return [grammar.caption(sample_scene(rng, statistics), rng) for _ in range(9000)]


def _tokens(caption: Caption) -> list[tuple[str, bool]]:
    """Words with their salience, in order."""
    starts = {span.start for span in caption.salient}
    found, position = [], 0
    for word in caption.text.rstrip(".").split(" "):
        found.append((word.rstrip(",").lower(), position in starts))
        position += len(word) + 1
    return found


def _surprise(captions: list[Caption]) -> dict[bool, float]:
    """Held-out bits per word by salience, of a count model that sees two words on each side."""
    pair: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    half = len(captions) * 2 // 3
    bits: dict[bool, list[float]] = {True: [], False: []}
    vocabulary: set[str] = set()
    for i, caption in enumerate(captions):
        for context, word, salient in _contexts(caption):
            keys = [context, context[1:3], ()]
            if i < half:
                vocabulary.add(word)
                for key in keys:
                    pair[key][word] += 1
            else:
                p = 1 / len(vocabulary)
                for key in reversed(keys):  # each longer context refines the estimate of the shorter one
                    seen = pair.get(key, Counter())
                    p = (seen[word] + 4 * p) / (seen.total() + 4)
                bits[salient].append(-math.log2(p))
    return {salient: sum(values) / len(values) for salient, values in bits.items()}


def _contexts(caption: Caption) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    tokens = _tokens(caption)
    padded = ["<", "<", *(word for word, _ in tokens), ">", ">"]
    for i, (word, salient) in enumerate(tokens):
        yield (padded[i], padded[i + 1], padded[i + 3], padded[i + 4]), word, salient


def test_salient_words_are_hard_to_guess_from_the_sentence_and_the_others_easy(captions: list[Caption]) -> None:
    bits = _surprise(captions)
    assert bits[False] < 1.3
    assert bits[True] > 2.2
    assert bits[True] > 2 * bits[False]


def test_the_best_guess_hits_guessable_image_words_and_misses_salient_ones(captions: list[Caption]) -> None:
    seen: dict[tuple[object, ...], Counter[object]] = defaultdict(Counter)
    entries = []
    for caption in captions:
        kinds = tuple(sorted(phrase.kind for phrase in caption.claim.phrases))
        for span in caption.spans:
            if span.slot.field in ("colour", "ground"):
                own = caption.claim.phrases[span.slot.index].kind if span.slot.field == "colour" else kinds
                seen[span.slot.field, own][span.slot.value] += 1
                entries.append((span.salient, (span.slot.field, own), span.slot.value))
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for salient, key, value in entries:
        hits[salient].append(seen[key].most_common(1)[0][0] == value)
    assert min(len(hits[True]), len(hits[False])) > 2000
    assert sum(hits[False]) / len(hits[False]) > 0.9
    assert sum(hits[True]) / len(hits[True]) < 0.45


def test_captions_are_short_and_their_vocabulary_is_small(captions: list[Caption]) -> None:
    lengths = [len(words(caption.text)) for caption in captions]
    vocabulary = {word for caption in captions for word in words(caption.text)}
    assert 8 <= sum(lengths) / len(lengths) <= 16
    assert max(lengths) <= 26
    assert 100 <= len(vocabulary) <= 250
    share = sum(len(caption.salient) for caption in captions) / sum(lengths)
    assert 0.3 < share < 0.6


def test_no_word_tells_by_its_article(captions: list[Caption]) -> None:
    for caption in captions:
        for article, word in pairwise(words(caption.text)):
            assert article != "an"
            assert article != "a" or word[0] not in "aeiou"


def test_most_captions_single_out_their_scene_among_a_hundred() -> None:
    scenes = sample_splits({"train": 0, "val": 0, "test": 100}, seed=0)["test"]
    grammar, rng = Grammar(Statistics()), random.Random(1)
    alone = [
        sum(caption.claim.holds(other) for other in scenes) == 1
        for scene in scenes
        for caption in grammar.captions(scene, rng, 2)
    ]
    assert sum(alone) / len(alone) > 0.85


def _colours(lines: list[str]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        said = words(line)
        for colour, noun in pairwise(said):
            if noun in ("car", "kite", "parasol", "boat", "house"):
                found[noun][colour] += 1
    return found


def test_another_grammar_seed_is_the_same_language_with_other_statistics() -> None:
    own, same, other = (list(corpus(3000, seed)) for seed in (0, 0, 7))
    assert own == same
    assert {w for line in other for w in words(line)} <= {w for line in own for w in words(line)}
    for noun, counts in _colours(own).items():
        shifted = _colours(other)[noun]
        distance = sum(abs(counts[c] / counts.total() - shifted[c] / shifted.total()) for c in counts | shifted) / 2
        assert distance > 0.15, noun
