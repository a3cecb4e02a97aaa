"""``python -m reproduce miniature calibrate | run [CLAIM …] | report``: the paper's claims in miniature."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reproduce.miniature.settings import RESULTS, SETTINGS, Miniature, read_settings
from vlp.config.schema import ConfigError

WORK = Path("runs") / "miniature"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its three commands."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="calibrate|run|report")
    calibrate = commands.add_parser("calibrate", help="look at vanilla alone: is it half way at the budget?")
    run = commands.add_parser("run", help="make the runs of claims that are not there yet")
    report = commands.add_parser("report", help="write the page with the verdicts")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help="such as C3; default: all")
    run.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="of those in the settings; default: all")
    for each in (calibrate, run):
        each.add_argument("--baselines", nargs="+", metavar="NAME", help="default: all in the settings")
        each.add_argument("--settings", type=Path, default=SETTINGS, help=f"default {SETTINGS.name}")
        each.add_argument("--work", type=Path, default=WORK, help=f"folder of data and checkpoints, default {WORK}")
    report.add_argument("--output", type=Path, default=RESULTS, help="folder of the page, default that of the results")
    report.add_argument("--readme", type=Path, metavar="FILE", help="a page whose table of verdicts is renewed, too")
    for each in (calibrate, run, report):
        each.add_argument("--results", type=Path, default=RESULTS, help="default reproduce/results/miniature")


def main(arguments: argparse.Namespace) -> int:
    """Do it; the status: of calibrate 1 where vanilla is too weak or too strong."""
    if arguments.action == "report":
        from reproduce.miniature.report import renew_verdicts, write_report  # not above: others need no drawing

        for path in write_report(arguments.results, arguments.output):
            print(f"written: {path}")
        if arguments.readme:
            renew_verdicts(arguments.readme, arguments.results)
            print(f"written: {arguments.readme}")
        return 0
    settings = read_settings(arguments.settings)
    names = chosen_baselines(settings, arguments.baselines)
    work, results = arguments.work.resolve(), arguments.results.resolve()
    import torch  # not above: a wrong setting is told at once

    torch.set_num_threads(settings.threads)
    if arguments.action == "calibrate":
        from reproduce.miniature.calibrate import calibrate

        return 0 if calibrate(settings, names, work, results) else 1
    from reproduce.miniature.calibrate import calibrated
    from reproduce.miniature.places import Bench
    from reproduce.miniature.planning import plan, run_all, wanted_runs

    wanted = [run for run in wanted_runs(settings, arguments.claims) if run[0] in names]
    needed = dict.fromkeys(name for name, _ in wanted)
    benches = {name: Bench(name, calibrated(settings, name, results), settings, work, results) for name in needed}
    run_all(plan(benches, wanted, chosen_seeds(settings, arguments.seeds)))
    return 0


def chosen_baselines(settings: Miniature, names: Sequence[str] | None) -> list[str]:
    """Those of the command line, or all.

    Raises:
        ConfigError: one has no settings.
    """
    for name in names or ():
        settings.baseline(name)
    return list(names or settings.baselines)


def chosen_seeds(settings: Miniature, seeds: Sequence[int] | None) -> list[int]:
    """Those of the command line, or all.

    Raises:
        ConfigError: the settings do not have it.
    """
    if others := [seed for seed in seeds or () if seed not in settings.seeds]:
        raise ConfigError(f"--seeds {others[0]}: the settings have {', '.join(map(str, settings.seeds))}")
    return list(seeds or settings.seeds)
