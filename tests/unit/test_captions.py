"""Caption files and scores: the formulas of the papers, one word sequence at a time, and pycocoevalcap where it is."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlp.data.errors import DataError
from vlp.evaluation.caption_scores import bleu, caption_scores, cider, words_of
from vlp.evaluation.captions import Captions, matched, read_references

SENTENCE = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=7)
CORPUS = st.lists(st.tuples(SENTENCE, st.lists(SENTENCE, min_size=1, max_size=3)), min_size=1, max_size=4)


def grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def plain_bleu(corpus: list[tuple[list[str], list[list[str]]]], n: int) -> float:
    product = 1.0
    for k in range(1, n + 1):
        right = made = 0
        for candidate, references in corpus:
            for gram in set(grams(candidate, k)):
                right += min(grams(candidate, k).count(gram), max(grams(r, k).count(gram) for r in references))
            made += len(grams(candidate, k))
        if not right:
            return 0.0
        product *= right / made
    length = sum(len(candidate) for candidate, _ in corpus)
    nearest = sum(
        len(sorted(references, key=lambda r: (abs(len(r) - len(candidate)), len(r)))[0])
        for candidate, references in corpus
    )
    return product ** (1 / n) * min(1, math.exp(1 - nearest / length))


def plain_cider(corpus: list[tuple[list[str], list[list[str]]]]) -> float:
    def vector(words: list[str], n: int) -> dict[tuple[str, ...], float]:
        idf = {
            gram: math.log(len(corpus) / max(1, sum(any(gram in grams(r, n) for r in refs) for _, refs in corpus)))
            for gram in grams(words, n)
        }
        return {gram: grams(words, n).count(gram) * rare for gram, rare in idf.items()}

    scores = []
    for candidate, references in corpus:
        for n in range(1, 5):
            of_n = 0.0
            for reference in references:
                own, other = vector(candidate, n), vector(reference, n)
                product = sum(min(own[gram], other.get(gram, 0.0)) * other.get(gram, 0.0) for gram in own)
                norms = math.hypot(*own.values()) * math.hypot(*other.values())
                if norms:
                    of_n += product / norms * math.exp(-((len(candidate) - len(reference)) ** 2) / 72)
            scores.append(10 * of_n / len(references))
    return sum(scores) / len(scores)


@settings(max_examples=60, deadline=None)
@given(CORPUS)
def test_bleu_is_its_formula(corpus: list[tuple[list[str], list[list[str]]]]) -> None:
    found = bleu(*zip(*corpus, strict=True))
    assert found == {f"Bleu_{n}": pytest.approx(plain_bleu(corpus, n)) for n in range(1, 5)}


@settings(max_examples=60, deadline=None)
@given(CORPUS)
def test_cider_is_its_formula(corpus: list[tuple[list[str], list[list[str]]]]) -> None:
    # Sentences shorter than n words have no vector, so their lengths do not matter there.
    assert cider(*zip(*corpus, strict=True)) == pytest.approx(plain_cider(corpus))


def test_papers_example() -> None:
    """Papineni et al. 2002, section 2.1: of seven times "the", two are right."""
    references = [[["the", "cat", "is", "on", "the", "mat"], ["there", "is", "a", "cat", "on", "the", "mat"]]]
    assert bleu([["the", "the", "the", "the", "the", "the", "the"]], references)["Bleu_1"] == pytest.approx(2 / 7)


def test_a_reference_itself_scores_most() -> None:
    references: dict[int | str, list[str]] = {1: ["A red car is parked."], 2: ["Two dogs run over grass.", "Dogs."]}
    found = caption_scores(
        {1: "a red car is parked", 2: "two dogs run over grass"}, {1: references[1], 2: ["two dogs run over grass"]}
    )
    assert found["Bleu_4"] == pytest.approx(1.0) and found["CIDEr"] == pytest.approx(10.0)
    worse = caption_scores({1: "a red bus is parked", 2: "a cat"}, references)
    assert worse["Bleu_4"] < 0.5 and worse["CIDEr"] < 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man's dog, isn't it?", ["a", "man", "'s", "dog", "is", "n't", "it"]),
        ("They're in a T-shirt (at 3,000 ft.)", ["they", "'re", "in", "a", "t-shirt", "at", "3,000", "ft"]),
        ("...", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_pycocoevalcap_agrees() -> None:
    """On the same words; every caption shares four words in a row with a reference, as it never takes log 0."""
    bleu_of_coco = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu(4)
    cider_of_coco = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    candidates = {
        1: "a man 's red car is parked",
        2: "two dogs run over the green grass",
        3: "a cat sits on it",
    }
    references = {
        1: ["a red car is parked here", "the man 's car is red"],
        2: ["two dogs run over the grass"],
        3: ["a cat sits on a sofa", "there 's a cat"],
    }
    both = references, {image: [caption] for image, caption in candidates.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        (of_n, _), (consensus, _) = bleu_of_coco.compute_score(*both), cider_of_coco.compute_score(*both)
    words = [caption.split() for caption in candidates.values()]
    compared = [[text.split() for text in texts] for texts in references.values()]
    assert list(bleu(words, compared).values()) == pytest.approx(of_n, rel=1e-6)
    assert cider(words, compared) == pytest.approx(consensus, rel=1e-6)


def test_an_image_counts_once_and_the_file_has_the_official_form(tmp_path: Path) -> None:
    captions = Captions()
    captions.take([3, 9], ["a dog", "a cat"])
    captions.take([3], ["a dog"])  # the sampler's padding
    captions.gather()
    captions.write(tmp_path / "result/test.json")
    rows = json.loads((tmp_path / "result/test.json").read_text())
    assert rows == [{"image_id": 3, "caption": "a dog"}, {"image_id": 9, "caption": "a cat"}]


def test_references(tmp_path: Path) -> None:
    path = tmp_path / "gt.json"
    path.write_text(
        json.dumps({"images": [], "annotations": [{"id": 1, "image_id": i // 2, "caption": f"c{i}"} for i in range(4)]})
    )
    references = read_references(path)
    assert references == {0: ["c0", "c1"], 1: ["c2", "c3"]}
    assert matched({"1": "x"}, references, path) == {"1": ["c2", "c3"]}
    with pytest.raises(DataError, match=r"gt\.json: has no caption of image 7 \(1 of 2 images\)"):
        matched({1: "x", 7: "y"}, references, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "is no JSON"),
        ("[]", "has no list under 'annotations'"),
        ('{"annotations": [{"image_id": 1}]}', "annotation 0 needs an image_id and a caption"),
        ('{"annotations": [3]}', "annotation 0 needs an image_id and a caption"),
    ],
)
def test_references_that_are_none(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "gt.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_references(path)
