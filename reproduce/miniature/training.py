"""The report's sections on what happens during training: recall, |T|/|M|, false negatives, salient mass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean, median

from matplotlib.figure import Figure

from reproduce.miniature.claims import ABLATED, BASELINES, VARIANTS
from reproduce.miniature.drawing import Curve, Over, Points, draw_curves, draw_points, over_seeds
from reproduce.miniature.evidence import REPLACED, at_budget, recall, steps_to
from reproduce.miniature.intervals import t_interval
from reproduce.miniature.page import Block, Picture, Section, Table, Text
from reproduce.miniature.reading import Results, Seeds
from reproduce.miniature.results import Run
from reproduce.miniature.verdicts import mean

TABLE4 = ("vanilla", "itc_rand", "itc_lm", "epic")
TABLE5 = ("epic", "lm_fixed", "lm_trained", "lm_cond", "vlm_sas")
BEYOND = ("itc_lm", "epic", "momentum", "surprise", "frequency")
GENERATORS = ("itc_rand", *TABLE5)
COSTS = ("vanilla", "vanilla_compute", "epic")
RECALL = 10.0  # per cent: the least that calibration leaves vanilla with at the budget


def learning_section(results: Results) -> Section:
    """Recall over training of all variants, and the steps to a given recall."""
    blocks: list[Block] = [
        Text(
            "Mean of TR R@1 and IR R@1, zero-shot, in per cent: the mean over seeds, the band is one standard "
            "deviation. Vanilla with EPIC's compute has a schedule of its own, of more steps."
        )
    ]
    groups = {"Table 4": TABLE4, "Table 5": TABLE5, "beyond the paper": BEYOND}
    ablation = {title: curves_of(results, ABLATED, names, recalls) for title, names in groups.items()}
    of_each = {title: curves_of(results, name, COSTS, recalls) for name, title in BASELINES.items()}
    blocks += _picture("learning_ablation", "Learning curves of METER's variants.", ablation, "mean R@1, %")
    blocks += _picture("learning_baselines", "Learning curves of the four baselines.", of_each, "mean R@1, %")
    blocks.append(
        Text(
            f"Steps until the mean R@1 is {RECALL:g} %, and until it is what vanilla has at the budget in the mean "
            "over its seeds: the median over seeds, between two points on the line through both, and how many runs "
            "have it. A run that has it at its first point counts with the steps of that point, one that never has "
            "it as never."
        )
    )
    head = ("baseline", "variant", f"steps to {RECALL:g} %", "runs that have it", "steps to vanilla's", "runs")
    return Section("Learning curves", [*blocks, Table(head, [*_steps(results)], names=2)])


def replaced_section(results: Results) -> Section:
    """|T|/|M| over training."""
    curves = curves_of(results, ABLATED, GENERATORS, lambda run: run.curves.get(REPLACED, ()))
    caption = "Share of the masked tokens whose replacement is another token, |T|/|M|, by generator."
    return Section(
        "|T|/|M| during training", _or_missing(_picture("replaced", caption, {"METER": curves}, "|T|/|M|, %"))
    )


def false_negatives_section(results: Results) -> Section:
    """Replacements that leave the sentence true, by generator."""
    curves = curves_of(results, ABLATED, GENERATORS, false_negatives)
    says = (
        "A replaced token counts as inconsistent with the image. Of scenes it is known what is true: the share of the "
        "replaced tokens that leave the sentence true of its picture, so that the target is wrong."
    )
    drawn = _picture("false_negatives", "Share of false negatives.", {"METER": curves}, "left true, %")
    lines = [
        [
            VARIANTS[name],
            *(mean(ends) for ends in _ends(results.of(ABLATED, name))),
            str(_with_false_negatives(results, name)),
        ]
        for name in GENERATORS
    ]
    table = Table(("generator", "first point, %", "at the budget, %", "runs"), lines)
    return Section("False negatives by generator", [Text(says), *_or_missing(drawn), table])


def salient_section(results: Results) -> Section:
    """How much of what is masked is salient, by masking."""
    masses = {VARIANTS[name]: _masses(results.of(ABLATED, name)) for name in BEYOND}
    says = (
        "Share of the masking distribution on the words that only the image determines, which scenes know. ITC+LM "
        "masks uniformly. What each makes of retrieval is in the sections on it."
    )
    rows = {name: Points(values, t_interval(values)) for name, values in masses.items() if values}

    def draw() -> Figure:
        return draw_points(rows, "mass on salient words, %", zero=False)

    caption = "Mass on salient words: a dot per seed, the mean and its 95 % interval."
    drawn = [Picture("salient_mass", caption, draw)] if rows else []
    lines = [[name, f"{fmean(values):.1f}" if values else "", str(len(values))] for name, values in masses.items()]
    table = Table(("masking of", "mass on salient words, %", "runs"), lines)
    return Section("Salient mass by masking", [Text(says), *_or_missing(drawn), table])


def curves_of(results: Results, baseline: str, names: Sequence[str], read: Callable[[Run], Curve]) -> dict[str, Over]:
    """The curves of variants over the seeds that have one, by the variant's name."""
    by_name = {name: [read(run) for run in results.of(baseline, name).values()] for name in names}
    found = {VARIANTS[name]: over_seeds([each for each in curves if each]) for name, curves in by_name.items()}
    return {name: over for name, over in found.items() if over is not None}


def recalls(run: Run) -> Curve:
    """Mean R@1 as a share."""
    return [[point["step"], recall(point) / 100] for point in run.points]


def false_negatives(run: Run) -> Curve:
    """Their share, where tokens were replaced."""
    return [[point["step"], point["share"]] for point in run.false_negatives or () if point["replaced"]]


def _picture(name: str, caption: str, panels: Mapping[str, Mapping[str, Over]], label: str) -> list[Block]:
    """Of the panels that have a curve; nothing if none has."""
    drawn = {title: curves for title, curves in panels.items() if curves}
    return [Picture(name, caption, lambda: draw_curves(drawn, label))] if drawn else []


def _or_missing(blocks: Sequence[Block]) -> Sequence[Block]:
    return blocks or [Text("Missing: no run has it.", warns=True)]


def _steps(results: Results) -> Iterator[list[str]]:
    for (baseline, variant), seeds in sorted(results.runs.items(), key=_order):
        vanilla = at_budget(results.of(baseline, "vanilla"))
        wanted = [RECALL, fmean(vanilla.values()) if vanilla else None]
        cells = [cell for each in wanted for cell in _reached(seeds, each)]
        yield [BASELINES[baseline], VARIANTS[variant], *cells]


def _order(item: tuple[tuple[str, str], Seeds]) -> tuple[int, int]:
    baseline, variant = item[0]
    return [*BASELINES].index(baseline), [*VARIANTS].index(variant)


def _reached(seeds: Seeds, wanted: float | None) -> list[str]:
    """The median over seeds, and how many have it of how many."""
    if wanted is None:
        return ["", ""]
    steps = [steps_to(run, wanted) for run in seeds.values()]
    middle = median(math.inf if each is None else each for each in steps)
    there = sum(each is not None for each in steps)
    return [f"{middle:.0f}" if math.isfinite(middle) else "never", f"{there} of {len(steps)}"]


def _ends(seeds: Seeds) -> tuple[dict[int, float], dict[int, float]]:
    """Share of false negatives at the first and the last point, by seed, in per cent."""
    shares = {seed: curve for seed, run in seeds.items() if (curve := false_negatives(run))}
    first, last = ({seed: 100 * curve[i][1] for seed, curve in shares.items()} for i in (0, -1))
    return first, last


def _with_false_negatives(results: Results, variant: str) -> int:
    return sum(bool(run.false_negatives) for run in results.of(ABLATED, variant).values())


def _masses(seeds: Seeds) -> list[float]:
    return [100 * run.salient_mass for run in seeds.values() if run.salient_mass is not None]
