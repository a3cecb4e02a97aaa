"""The report's sections on how it was measured: costs, runs, configuration, machines, and what it cannot show."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from reproduce.miniature.claims import BASELINES, VARIANTS
from reproduce.miniature.evidence import Paired, at_budget
from reproduce.miniature.page import Block, Bullets, Section, Table, Text
from reproduce.miniature.reading import Results, Seeds, setting, shared_settings
from reproduce.miniature.results import CALIBRATION, Run
from reproduce.miniature.verdicts import difference

CANNOT_SHOW = (
    "Scenes are drawings of a few kinds of things, and their captions come from a grammar. That a claim holds or fails "
    "here says nothing of photographs and of captions that people wrote.",
    "The models have a few layers and start at random. The paper's start from encoders that were pre-trained on "
    "images and on text, and are trained far longer; an effect that appears late, or wears off, is missed.",
    "The intervals are those of seeds: of initial weights, order and draws. Data, models and settings were chosen "
    "once, and all runs of a baseline share one teacher; another choice may give another verdict.",
    "EPIC's settings are the paper's, untuned for this size. Vanilla's were chosen by calibration.",
    "Each interval has its own 95 %. Of many comparisons without a difference, one in forty comes out supported and "
    "one in forty contradicted.",
    "Undecided says that the runs were too few or too noisy for the difference, and not that there is none.",
)


def costs_section(results: Results) -> Section:
    """What EPIC costs, and what it gains for it at equal steps and at equal compute."""
    says = (
        "FLOPs are those of the matrix products and convolutions of a training step, forward and backward, in the "
        "mean; time is the processor time of pre-training. The gain is EPIC's in mean R@1 over vanilla, in points, "
        "at equal steps and at equal compute, where vanilla is trained longer for EPIC's additional FLOPs."
    )
    head = (
        "baseline",
        "FLOPs, vanilla",
        "FLOPs, EPIC",
        "ratio",
        "time, ratio",
        "gain, equal steps",
        "gain, equal compute",
    )
    return Section("Costs", [Text(says), Table(head, [_cost(results, name) for name in BASELINES])])


def setting_section(results: Results) -> Section:
    """Configuration, code, machines, and which runs there are."""
    runs = {
        name: [run for key, seeds in results.runs.items() if key[0] == name for run in seeds.values()]
        for name in BASELINES
    }
    blocks: list[Block] = [
        Text(
            "Runs that are compared have the same settings but for EPIC's keys; the hash is that of these settings. "
            "Behind a commit: how many runs it made."
        ),
        Table(
            ("baseline", "configuration", "commits", "runs"), [_made(name, runs[name]) for name in BASELINES], names=3
        ),
        Text("Seeds of the runs; an empty cell has no run."),
        Table(("variant", *BASELINES.values()), [*_seeds(results)]),
    ]
    if lines := [*_settings(runs)]:
        blocks += [
            Text("The settings that all runs of a baseline share."),
            Table(("setting", *BASELINES.values()), lines, names=1 + len(BASELINES)),
        ]
    machines = Counter(_words(run.machine) for each in runs.values() for run in each if run.machine)
    if machines:
        blocks.append(Bullets([f"machine of {count} runs: {words}" for words, count in machines.items()]))
    return Section("The setting", [*blocks, *_calibration(results)])


def limits_section() -> Section:
    """What a miniature cannot show."""
    return Section("What a miniature cannot show", [Bullets(CANNOT_SHOW)])


def _cost(results: Results, baseline: str) -> list[str]:
    vanilla, compute, epic = (results.of(baseline, name) for name in ("vanilla", "vanilla_compute", "epic"))
    gains = [difference(Paired.of(at_budget(epic), at_budget(other))) for other in (vanilla, compute)]
    if not (vanilla and epic):
        return [BASELINES[baseline], "", "", "", "", *gains]
    flops = [fmean(run.flops_per_step for run in seeds.values()) for seeds in (vanilla, epic)]
    times = [_seconds_per_step(seeds) for seeds in (vanilla, epic)]
    return [BASELINES[baseline], *(f"{each:.3g}" for each in flops), *map(_ratio, (flops, times)), *gains]


def _seconds_per_step(seeds: Seeds) -> float:
    return fmean(run.seconds.get("pretraining", 0.0) / run.steps for run in seeds.values())


def _ratio(pair: list[float]) -> str:
    """Second to first; empty where the first was not measured."""
    return f"{pair[1] / pair[0]:.2f}" if pair[0] else ""


def _made(baseline: str, runs: list[Run]) -> list[str]:
    if not runs:
        return [BASELINES[baseline], "", "", "0"]
    commits = Counter(f"{run.commit[:12]}{' with uncommitted changes' if run.dirty else ''}" for run in runs)
    words = ", ".join(f"{commit} ({count})" for commit, count in commits.items())
    return [BASELINES[baseline], setting(runs[0]), words, str(len(runs))]


def _seeds(results: Results) -> Iterator[list[str]]:
    for variant, title in VARIANTS.items():
        seeds = [results.of(baseline, variant) for baseline in BASELINES]
        yield [title, *(", ".join(map(str, sorted(each))) for each in seeds)]


def _settings(runs: Mapping[str, list[Run]]) -> Iterator[list[str]]:
    """A line for each key that all runs of a baseline agree on."""
    shared = {name: _agreed([dict(_flat(shared_settings(run))) for run in each]) for name, each in runs.items()}
    for key in dict.fromkeys(key for each in shared.values() for key in each):
        yield [key, *(shared[name].get(key, "") for name in BASELINES)]


def _agreed(settings: list[dict[str, str]]) -> dict[str, str]:
    first = settings[0] if settings else {}
    return {key: value for key, value in first.items() if all(each.get(key) == value for each in settings)}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _calibration(results: Results) -> list[Block]:
    found = results.calibration
    if found is None:
        return [Text(f"Missing: {CALIBRATION}, by which vanilla's settings were chosen.", warns=True)]
    chosen = "; ".join(f"{BASELINES.get(name, name)}: {_words(each.changes)}" for name, each in found.chosen.items())
    says = "Calibration looked at vanilla runs alone, before a run with EPIC was made."
    lines = [
        [
            *(BASELINES.get(each.baseline, each.baseline), _words(each.settings)),
            *(f"{each.tr_r1:.1f}", f"{each.ir_r1:.1f}", f"{each.seconds:.0f}", each.commit[:12]),
        ]
        for each in found.tried
    ]
    head = ("baseline", "settings", "TR R@1", "IR R@1", "seconds", "commit")
    return [Text(f"{says} It chose {chosen}. It tried:"), Table(head, lines, names=2)]


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in _flat(settings)) or "as they stand"
