"""How near captions are to people's: BLEU and CIDEr.

pycocoevalcap's numbers where it and Java, which its tokenizer is written in, are installed: those that papers report.
Elsewhere the same formulas over nearly the same words.

Source: docs/official/xvlm.md §7.5; Papineni et al. 2002 (BLEU); Vedantam et al. 2015 (CIDEr-D, the form of
pycocoevalcap).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import math
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vlp.evaluation.captions import ImageId, References

log = logging.getLogger(__name__)

NGRAMS = 4
_SIGMA = 6.0  # of CIDEr-D's penalty on differing lengths
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))\b")
_WORD = re.compile(r"n't|'\w+|\w+(?:[-.,/]\w+)*|[&%$]")

Words = list[str]
Grams = Counter[tuple[str, ...]]


def caption_scores(captions: Mapping[ImageId, str], references: References) -> dict[str, float]:
    """``Bleu_1`` … ``Bleu_4`` and ``CIDEr`` over all captioned images; with pycocoevalcap also ``METEOR``, ``ROUGE_L``.

    1 is the most, of CIDEr 10. SPICE, whose language models pycocoevalcap downloads, is left out.

    Args:
        captions: at least one.
        references: one or more of each captioned image.
    """
    if importlib.util.find_spec("pycocoevalcap") is not None and shutil.which("java"):
        log.info("[captions] scored by pycocoevalcap")
        return official_scores(captions, references)
    log.warning(
        "[captions] scored without pycocoevalcap: its numbers differ in the fourth digit, where it splits words "
        "otherwise. For those that papers report, and METEOR and ROUGE_L: pip install pycocoevalcap, and install Java"
    )
    candidates = [words_of(captions[image]) for image in captions]
    compared = [[words_of(text) for text in references[image]] for image in captions]
    return {**bleu(candidates, compared), "CIDEr": cider(candidates, compared)}


def official_scores(captions: Mapping[ImageId, str], references: References) -> dict[str, float]:
    """Those of pycocoevalcap, which must be installed."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    given = {image: [{"caption": caption}] for image, caption in captions.items()}
    compared = {image: [{"caption": text} for text in references[image]] for image in captions}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        tokenizer: Any = PTBTokenizer()
        both = tokenizer.tokenize(compared), tokenizer.tokenize(given)
        blue, _ = Bleu(NGRAMS).compute_score(*both)
        scores = {f"Bleu_{n + 1}": float(value) for n, value in enumerate(blue)}
        for name, scorer in (("METEOR", Meteor()), ("ROUGE_L", Rouge()), ("CIDEr", Cider())):
            scores[name] = float(scorer.compute_score(*both)[0])
    return scores


def words_of(text: str) -> Words:
    """Lower-case words without punctuation, "don't" as "do" and "n't", as the Penn Treebank's tokenizer splits them."""
    return _WORD.findall(_CLITIC.sub(r" \1", text.lower()))


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> dict[str, float]:
    """``Bleu_n`` of a whole corpus: the geometric mean of the clipped precisions of 1 to n words, and brevity penalty.

    A reference's length counts that is nearest to the candidate's, the shorter of two.
    """
    right, made = [0] * NGRAMS, [0] * NGRAMS
    length = reference_length = 0
    for candidate, compared in zip(candidates, references, strict=True):
        length += len(candidate)
        reference_length += min((abs(len(words) - len(candidate)), len(words)) for words in compared)[1]
        for n in range(NGRAMS):
            most: Grams = Counter()
            for words in compared:
                most |= _grams(words, n + 1)
            found = _grams(candidate, n + 1)
            right[n] += (found & most).total()
            made[n] += found.total()
    brevity = min(1.0, math.exp(1 - reference_length / length)) if length else 0.0
    scores, logs = {}, 0.0
    for n in range(NGRAMS):
        logs += math.log(right[n] / made[n]) if right[n] else -math.inf
        scores[f"Bleu_{n + 1}"] = brevity * math.exp(logs / (n + 1))
    return scores


def cider(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """CIDEr-D: the likeness of TF-IDF vectors of 1 to 4 words, the mean over images, times 10.

    Words are rare that few images' references have.
    """
    images, total = len(candidates), 0.0
    for n in range(1, NGRAMS + 1):
        compared = [[_grams(words, n) for words in each] for each in references]
        having = Counter(gram for each in compared for gram in {gram for grams in each for gram in grams})
        for candidate, of_image in zip(candidates, compared, strict=True):
            own = _weighted(_grams(candidate, n), having, images)
            for grams in of_image:
                other = _weighted(grams, having, images)
                shared = sum(min(weight, other[gram]) * other[gram] for gram, weight in own.items() if gram in other)
                norms = _norm(own) * _norm(other)
                apart = len(candidate) - (grams.total() + n - 1)
                likeness = shared / norms if norms else 0.0
                total += likeness * math.exp(-(apart**2) / (2 * _SIGMA**2)) / len(of_image)
    return 10 * total / (NGRAMS * images)


def _grams(words: Words, n: int) -> Grams:
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def _weighted(grams: Grams, having: Grams, images: int) -> dict[tuple[str, ...], float]:
    return {gram: count * math.log(images / max(having[gram], 1)) for gram, count in grams.items()}


def _norm(vector: Mapping[Any, float]) -> float:
    return math.sqrt(sum(weight**2 for weight in vector.values()))
