"""What the results say of a question: both sides by seed, their differences, the interval, the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from reproduce.miniature.claims import (
    CAPTION_OVER_FOIL,
    CLAIMS,
    DROP_ALIKE,
    IMAGE_HELPS,
    REPLACED_FALLS,
    RETRIEVAL,
    TEXT_ONLY,
    TEXT_SUFFICES,
    WITH_IMAGE,
    WRONG_WORDS,
    Claim,
    Measure,
    Question,
)
from reproduce.miniature.intervals import Interval, Verdict, paired, t_interval, verdict
from reproduce.miniature.reading import Results, Seeds
from reproduce.miniature.results import Run

REPLACED = "epic_replaced_share"  # the curve of |T|/|M|
Values = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Paired:
    """Two sides of a comparison by seed; ``differences`` has the seeds of both, ``interval`` is None below two."""

    first: Values
    second: Values
    differences: Values
    interval: Interval | None

    @classmethod
    def of(cls, first: Values, second: Values) -> Paired:
        """The differences first - second, and their interval."""
        differences = paired(first, second)
        return cls(first, second, differences, t_interval([*differences.values()]))


@dataclass(frozen=True)
class Answer:
    """To a question."""

    question: Question
    measured: Paired
    verdict: Verdict


def answer(question: Question, results: Results) -> Answer:
    """By the measure that the question fixes."""
    measured = Paired.of(*_SIDES[question.measure](question, results))
    return Answer(question, measured, verdict(measured.interval, question.measure.alike_within))


def answers(results: Results) -> list[tuple[Claim, list[Answer]]]:
    """To every question of every claim."""
    return [(claim, [answer(question, results) for question in claim.questions]) for claim in CLAIMS]


def beside(question: Question, results: Results) -> dict[str, Paired]:
    """What is shown without a verdict beside a comparison of retrieval, by name; nothing beside another."""
    if question.measure != RETRIEVAL:
        return {}
    runs = [results.of(question.baseline, name) for name in (question.variant, question.reference)]
    tasks = sorted({str(run.fine_tuned["task"]) for seeds in runs for run in seeds.values() if run.fine_tuned})
    return {
        **{f"{way.upper()} R@1": Paired.of(*(_scores(seeds, f"{way}_r1") for seeds in runs)) for way in ("tr", "ir")},
        **{f"{task}, fine-tuned": Paired.of(*(_accuracies(seeds, task) for seeds in runs)) for task in tasks},
    }


def recall(point: Mapping[str, float]) -> float:
    """Mean of TR R@1 and IR R@1, in per cent."""
    return (point["tr_r1"] + point["ir_r1"]) / 2


def at_budget(seeds: Seeds) -> dict[int, float]:
    """:func:`recall` of each run's last point."""
    return {seed: recall(run.points[-1]) for seed, run in seeds.items()}


def steps_to(run: Run, wanted: float) -> float | None:
    """Steps until :func:`recall` is ``wanted``, between two points on the line through both.

    Of a run that has it at its first point that point's step; None of a run that never has it at a point.
    """
    before = None
    for point in run.points:
        if recall(point) >= wanted:
            if before is None:
                return point["step"]
            share = (wanted - recall(before)) / (recall(point) - recall(before))
            return before["step"] + share * (point["step"] - before["step"])
        before = point
    return None


def fifths(curve: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Mean of the values in the first fifth of ``[[step, value], …]``, and in the last; None below five values."""
    values = [value for _, value in curve]
    count = len(values) // 5
    return (fmean(values[:count]), fmean(values[-count:])) if count else None


Sides = tuple[Values, Values]


def _retrieval(question: Question, results: Results) -> Sides:
    variant, reference = (results.of(question.baseline, name) for name in (question.variant, question.reference))
    return at_budget(variant), at_budget(reference)


def _replaced(question: Question, results: Results) -> Sides:
    runs = results.of(question.baseline, question.variant)
    found = {seed: fifths(run.curves.get(REPLACED, ())) for seed, run in runs.items()}
    first, last = ({seed: 100 * ends[i] for seed, ends in found.items() if ends} for i in (0, 1))
    return first, last


def _wrong_words(question: Question, results: Results) -> Sides:
    areas = {seed: foils["itc"]["auroc"] for seed, foils in _foils(question, results).items()}
    found = {seed: 100 * area for seed, area in areas.items() if area is not None}
    return found, dict.fromkeys(found, 50.0)


def _captions_over_foils(question: Question, results: Results) -> Sides:
    judged = _foils(question, results)
    itc, itm = ({seed: foils[head]["accuracy"] for seed, foils in judged.items()} for head in ("itc", "itm"))
    return itc, itm


def _foils(question: Question, results: Results) -> dict[int, Mapping[str, Any]]:
    runs = results.of(question.baseline, question.variant)
    return {seed: run.foils for seed, run in runs.items() if run.foils}


def _masked_tokens(results: Results) -> Sides:
    """Accuracy at the last step with the image, and of the text alone."""
    repeats = results.figures.get("2a", {}).get("repeats", ())
    seen, unseen = ({each["seed"]: 100 * each[name][-1] for each in repeats} for name in (WITH_IMAGE, TEXT_ONLY))
    return seen, unseen


def _share_without_image(question: Question, results: Results) -> Sides:
    seen, unseen = _masked_tokens(results)
    shares = {seed: 100 * unseen[seed] / value for seed, value in seen.items() if value}
    return shares, dict.fromkeys(shares, 50.0)


def _drops(question: Question, results: Results) -> Sides:
    content = results.figures.get("2b", {"repeats": (), "shares": ()})
    corrupted = [i for i, share in enumerate(content["shares"]) if share > 0]
    seen, unseen = (
        {each["seed"]: 100 * fmean(each["drop"][name][i] for i in corrupted) for each in content["repeats"]}
        for name in (WITH_IMAGE, TEXT_ONLY)
    )
    return seen, unseen


_SIDES: Mapping[Measure, Callable[[Question, Results], Sides]] = {
    RETRIEVAL: _retrieval,
    IMAGE_HELPS: lambda question, results: _masked_tokens(results),
    TEXT_SUFFICES: _share_without_image,
    DROP_ALIKE: _drops,
    REPLACED_FALLS: _replaced,
    WRONG_WORDS: _wrong_words,
    CAPTION_OVER_FOIL: _captions_over_foils,
}


def _scores(seeds: Seeds, column: str) -> dict[int, float]:
    return {seed: run.points[-1][column] for seed, run in seeds.items()}


def _accuracies(seeds: Seeds, task: str) -> dict[int, float]:
    tuned = {seed: run.fine_tuned for seed, run in seeds.items()}
    return {seed: float(found["accuracy"]) for seed, found in tuned.items() if found and found["task"] == task}
