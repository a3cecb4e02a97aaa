"""Which runs there are to make, in which order, and who makes them: one process each, none twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reproduce import state
from reproduce.miniature import data
from reproduce.miniature.claims import CLAIMS
from reproduce.miniature.places import Bench
from reproduce.miniature.results import RUNS, read_run, write_run
from reproduce.miniature.runs import Planned, clear, make_run
from reproduce.miniature.settings import COMPUTE, Miniature
from reproduce.miniature.teachers import steps_of_equal_compute, teacher_of
from vlp.config.nearest import did_you_mean
from vlp.config.schema import ConfigError


def wanted_runs(settings: Miniature, names: Sequence[str]) -> list[tuple[str, str]]:
    """The baselines and variants that claims need, of all claims where none is named; each once.

    Raises:
        ConfigError: there is no such claim.
    """
    known = {claim.name: claim for claim in CLAIMS}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"{unknown[0]!r} is no claim{did_you_mean(unknown[0], known)}; there are {', '.join(known)}")
    claims = [known[name] for name in names or known]
    return list(dict.fromkeys(run for claim in claims for run in claim.runs if run[0] in settings.baselines))


def plan(benches: Mapping[str, Bench], wanted: Sequence[tuple[str, str]], seeds: Sequence[int]) -> list[Planned]:
    """Seed by seed, so that what is compared is complete early."""
    runs = ((benches[name], variant, seed) for seed in seeds for name, variant in wanted)
    return [Planned(bench, variant, seed, bench.settings.steps) for bench, variant, seed in runs]


def run_all(planned: Sequence[Planned]) -> None:
    """Make what is not there; a run that another process makes meanwhile is left to it."""
    for number, each in enumerate(planned, start=1):
        head = f"[{number}/{len(planned)}] {each.name}"
        if is_there(each):
            print(f"{head}: there already", flush=True)
            continue
        try:
            with state.locked(each.folder):
                if is_there(each):  # another process has made it since
                    continue
                print(head, flush=True)
                run = make_run(ready(each))
                print(f"      written: {write_run(each.bench.results, run)}", flush=True)
                clear(each.folder)
        except state.LockedError:
            print(f"{head}: another process makes it", flush=True)


def ready(planned: Planned) -> Planned:
    """With its data made, its teacher found and its length known."""
    data.prepare(planned.bench)
    if planned.variant == COMPUTE:
        return replace(planned, steps=steps_of_equal_compute(planned.bench))
    return replace(planned, teacher=teacher_of(planned.bench)) if planned.needs_teacher else planned


def is_there(planned: Planned) -> bool:
    """Whether its file is there, of the same settings."""
    path = planned.bench.results / RUNS / f"{planned.name}.json"
    return path.exists() and read_run(path).config_hash == planned.config_hash
