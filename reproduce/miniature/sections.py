"""The report's sections on the claims: what each asks, what was measured, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure

from reproduce.figures.drawing import LABELS, Band, draw_bands
from reproduce.miniature.claims import BASELINES, VARIANTS, Claim, Measure
from reproduce.miniature.drawing import Points, draw_points
from reproduce.miniature.evidence import Answer, Paired, beside
from reproduce.miniature.intervals import FEWEST_PAIRS
from reproduce.miniature.page import Block, Picture, Section, Table, Text
from reproduce.miniature.reading import FIGURES, Results
from reproduce.miniature.verdicts import difference, mean

_HEAD = ("comparison", "measure", "verdict", "first", "second", "difference, with the 95 % interval", "pairs")
_AXES = {
    "2a": ("training step", "masked-token accuracy, %"),
    "2b": ("unmasked tokens corrupted, %", "relative drop of accuracy, %"),
}


def claim_section(claim: Claim, answers: Sequence[Answer], results: Results) -> Section:
    """Of one claim."""
    blocks: list[Block] = [Text(f"{claim.source[0].upper()}{claim.source[1:]}. {claim.says}")]
    if lacking := [*missing(claim, answers, results)]:
        blocks.append(Text(f"Missing: {'; '.join(lacking)}.", warns=True))
    blocks.append(Table(_HEAD, [line for each in answers for line in _lines(each, results)], names=3))
    blocks += _pictures(claim, answers)
    if claim.figure in results.figures:
        blocks.append(_figure(claim.figure, results.figures[claim.figure]))
    return Section(f"{claim.name}. {claim.title}" if claim.name[0] == "C" else claim.title, blocks)


def missing(claim: Claim, answers: Sequence[Answer], results: Results) -> Iterator[str]:
    """What the claim needs and is not there: Fig. 2's file, runs of a variant, seeds that other variants have,
    what runs were to measure."""
    if claim.figure and claim.figure not in results.figures:
        yield f"{FIGURES[claim.figure]} was not made"
    for baseline, variant in claim.runs:
        there = results.of(baseline, variant)
        name = f"{BASELINES[baseline]}, {VARIANTS[variant]}"
        if not there:
            yield f"{name}: no run"
        elif lacking := [str(seed) for seed in results.seeds(baseline) if seed not in there]:
            yield f"{name}: seed {', '.join(lacking)}"
    for each in answers:
        count, question = len(each.measured.differences), each.question
        runs = [results.of(question.baseline, name) for name in (question.variant, question.reference) if name]
        if count < FEWEST_PAIRS and (count or (runs and all(runs))):
            yield f"{question.statement}: {count} of at least {FEWEST_PAIRS} pairs"


def _lines(answer: Answer, results: Results) -> Iterator[list[str]]:
    question = answer.question
    yield _line(question.statement, _described(question.measure), answer.verdict, answer.measured)
    for name, measured in beside(question, results).items():
        yield _line("", name, "no verdict", measured)


def _line(statement: str, name: str, verdict: str, measured: Paired) -> list[str]:
    """Both sides are means over the pairs, so that they differ by what is shown; without a pair, over what is there."""
    pairs = measured.differences
    sides = [{seed: side[seed] for seed in pairs} or side for side in (measured.first, measured.second)]
    return [statement, name, verdict, *map(mean, sides), difference(measured), str(len(pairs))]


def _pictures(claim: Claim, answers: Sequence[Answer]) -> Iterator[Picture]:
    """One for each measure that has a value: rows of another unit stand on an axis of their own."""
    shown = [each for each in answers if each.measured.differences]
    for number, (measure, group) in enumerate(groupby(shown, key=lambda each: each.question.measure)):
        rows = {
            each.question.statement: Points([*each.measured.differences.values()], each.measured.interval)
            for each in group
        }
        yield _picture(f"{claim.name}{f'_{number + 1}' if number else ''}", measure, rows)


def _picture(name: str, measure: Measure, rows: Mapping[str, Points]) -> Picture:
    words = _described(measure)
    caption = f"{words[0].upper()}{words[1:]}: the difference of each seed as a dot, their mean and its 95 % interval."

    def draw() -> Figure:
        return draw_points(rows, "difference, points of per cent", measure.alike_within)

    if measure.alike_within is not None:
        caption += f" Differences in the grey band, ±{measure.alike_within:g}, count as alike."
    return Picture(name, caption, draw)


def _described(measure: Measure) -> str:
    return f"{measure.name}, {measure.first} less {measure.second}" if measure.first else measure.name


def _figure(name: str, content: Mapping[str, Any]) -> Picture:
    """Fig. 2 itself: means and bands over the repeats."""
    repeats = content["repeats"]
    curves = {model: [each[model] if name == "2a" else each["drop"][model] for each in repeats] for model in LABELS}
    x = content["steps"] if name == "2a" else [100 * share for share in content["shares"]]
    x_label, y_label = _AXES[name]
    caption = (
        f"Figure {name} on scenes, {BASELINES[content['baseline']]}: mean and standard deviation over {len(repeats)}"
    )

    def draw() -> Figure:
        return draw_bands(x, {LABELS[model]: Band.of(values) for model, values in curves.items()}, x_label, y_label)

    return Picture(f"figure{name}", f"{caption} repeats.", draw)
