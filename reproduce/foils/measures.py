"""Foils as a model judges them: how well heads tell captions from foils, and replaced tokens from the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from epic_common.metrics import auroc
from reproduce.foils.differences import wrong_words
from reproduce.foils.entries import Foil
from reproduce.foils.judges import Judge, Verdict
from vlp.data.errors import DataError
from vlp.files import regular
from vlp.progress import CountProgress

Numbers = dict[str, Any]


class Judged(NamedTuple):
    """A caption and its foil as a model judges them, and which of the foil's tokens are replaced."""

    caption: Verdict
    foil: Verdict
    wrong: frozenset[int]

    @classmethod
    def of(cls, caption: Verdict, foil: Verdict) -> Judged:
        """Wrong is every token of a word that is not the caption's."""
        words = wrong_words(caption.text, foil.text)
        return cls(caption, foil, frozenset(i for start, end in words for i in foil.tokens_of(start, end)))

    @property
    def is_read(self) -> bool:
        """Whether the model reads any difference: long texts are cut."""
        return self.caption.ids != self.foil.ids


def judge_foils(judge: Judge, foils: Sequence[Foil]) -> list[Judged]:
    """Judge every foil and its caption; an image is read and encoded once for all its sentences.

    Raises:
        DataError: an image or a text does not serve; names the entry and the image.
    """
    of_image: dict[Path, list[int]] = {}
    for number, foil in enumerate(foils):
        of_image.setdefault(foil.image, []).append(number)
    judged: dict[int, Judged] = {}
    progress = CountProgress("foils", "images", len(of_image), show=True)
    for image, numbers in of_image.items():
        texts = list(dict.fromkeys(text for i in numbers for text in (foils[i].caption, foils[i].foil)))
        try:
            verdicts = dict(zip(texts, judge(regular(image).read_bytes(), texts), strict=True))
        except (OSError, ValueError) as error:
            raise DataError(f"{foils[numbers[0]].where}, image {image}: {error}") from error
        for i in numbers:
            judged[i] = Judged.of(verdicts[foils[i].caption], verdicts[foils[i].foil])
        progress.advance()
    return [judged[number] for number in range(len(foils))]


def measure(judged: Sequence[Judged]) -> Numbers:
    """Accuracies in percent, areas from 0 to 1.

    ``itc`` is None of a checkpoint without EPIC, ``itm`` of one without an ITM head.
    """
    read = [each for each in judged if each.is_read]
    has_itc = any(each.foil.log_d is not None for each in read)
    has_itm = any(each.foil.match is not None for each in read)
    return {
        "foils": len(judged),
        "unread": len(judged) - len(read),
        "itc": {"accuracy": _accuracy((e.caption.score, e.foil.score) for e in read), **_words(read)}
        if has_itc
        else None,
        "itm": {"accuracy": _accuracy((e.caption.match, e.foil.match) for e in read)} if has_itm else None,
    }


def _accuracy(scores: Iterable[tuple[Any, Any]]) -> float:
    """How often a caption has a higher score than its foil, in percent; equal ones count one half."""
    wins = [(caption > foil) + (caption == foil) / 2 for caption, foil in scores]
    return 100 * sum(wins) / len(wins)


def _words(judged: Sequence[Judged]) -> Numbers:
    """Replaced tokens against the other real tokens of the same foils, of which each has a replaced one."""
    with_wrong = [each for each in judged if each.wrong]
    inconsistent, replaced = list[float](), list[bool]()
    found, chance = 0, 0.0
    for each in with_wrong:
        assert each.foil.log_d is not None
        inconsistent += [-value for value in each.foil.log_d]
        replaced += [i in each.wrong for i in range(len(each.foil.log_d))]
        found += min(range(len(each.foil.log_d)), key=each.foil.log_d.__getitem__) in each.wrong
        chance += len(each.wrong) / len(each.foil.log_d)
    area = auroc(torch.tensor(inconsistent, dtype=torch.float64), torch.tensor(replaced, dtype=torch.bool))
    count = len(with_wrong)
    return {
        "auroc": None if math.isnan(area) else area,
        "replaced_tokens": sum(replaced),
        "other_tokens": len(replaced) - sum(replaced),
        "located": 100 * found / count if count else None,
        "located_by_chance": 100 * chance / count if count else None,
    }
