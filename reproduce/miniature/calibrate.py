"""Whether vanilla is in the steep part of its learning curve at the budget; it is looked at before any run of EPIC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reproduce import state
from reproduce.miniature import data
from reproduce.miniature.places import Bench
from reproduce.miniature.results import CALIBRATION
from reproduce.miniature.runs import Planned, clear, make_run
from reproduce.miniature.settings import BaselineSettings, Miniature, changed, digest
from vlp.config.schema import ConfigError
from vlp.files import read_json, write_json

LEAST, MOST = 10.0, 40.0  # per cent: mean of TR R@1 and IR R@1 among the pictures that are ranked
ASK = "run python -m reproduce miniature calibrate first"


def calibrate(settings: Miniature, names: Sequence[str], work: Path, results: Path) -> bool:
    """Try the settings of each baseline, note all, choose the one nearest to the middle; whether all lie within."""
    fits = True
    for name in names:
        _read(results)  # before runs are made for a file that is none
        mine = []
        for changes in settings.baseline(name).tried:
            bench = Bench(name, changed(settings.baseline(name), changes, name), settings, work, results)
            mine.append(_try(bench, changes))
            print(f"{name} {changes or 'as they stand'}: {_said(mine[-1])}", flush=True)
        best = min(mine, key=lambda each: abs(_mean(each) - (LEAST + MOST) / 2))
        fits = fits and LEAST <= _mean(best) <= MOST
        note(results, name, mine, {"changes": best["settings"], "of": asked_of(settings, name)})
    return fits


def note(results: Path, name: str, mine: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> None:
    """Put a baseline's outcome beside those of others, as they are now: other processes may have calibrated them."""
    found = _read(results)
    tried = [each for each in found["tried"] if each["baseline"] != name]
    chosen = {**found["chosen"], name: chosen}
    write_json(results / CALIBRATION, {"chosen": chosen, "tried": [*tried, *mine]})


def calibrated(settings: Miniature, name: str, results: Path) -> BaselineSettings:
    """A baseline's settings, as calibrate chose them.

    Raises:
        ConfigError: it was not calibrated, or with other settings, or vanilla is too weak or too strong with them.
    """
    found, path = _read(results), results / CALIBRATION
    if name not in found["chosen"]:
        raise ConfigError(f"{path}: {name} is not calibrated: {ASK}")
    chosen = found["chosen"][name]
    if chosen["of"] != asked_of(settings, name):
        raise ConfigError(f"{path}: {name} was calibrated with other settings than miniature.yaml has now: {ASK}")
    (best,) = [each for each in found["tried"] if (each["baseline"], each["settings"]) == (name, chosen["changes"])]
    if not LEAST <= _mean(best) <= MOST:
        raise ConfigError(f"{path}: {name}: {_said(best)}: change its settings in miniature.yaml and calibrate again")
    return changed(settings.baseline(name), chosen["changes"], f"{path}: {name}")


def asked_of(settings: Miniature, name: str) -> str:
    """A hash of what a baseline's calibration hangs on."""
    return digest([settings.shared, settings.calibration_seed, settings.baseline(name).model_dump()])


def _try(bench: Bench, changes: Mapping[str, Any]) -> dict[str, Any]:
    planned = Planned(bench, "vanilla", bench.miniature.calibration_seed, bench.settings.steps)
    data.prepare(bench)
    with state.locked(planned.folder):
        run = make_run(planned, only_last=True)
        clear(planned.folder)
    (point,) = run.points
    recalls = {name: point[name] for name in ("tr_r1", "ir_r1")}
    made = {"seconds": round(sum(run.seconds.values()), 1), "commit": run.commit, "dirty": run.dirty}
    return {"baseline": bench.name, "settings": dict(changes), **recalls, **made}


def _mean(tried: Mapping[str, Any]) -> float:
    return (tried["tr_r1"] + tried["ir_r1"]) / 2


def _said(tried: Mapping[str, Any]) -> str:
    mean = _mean(tried)
    where = "within" if LEAST <= mean <= MOST else "below" if mean < LEAST else "above"
    return f"mean R@1 {mean:.1f} %, {where} {LEAST:.0f} to {MOST:.0f} %, {tried['seconds']:.0f} s of a core"


def _read(results: Path) -> dict[str, Any]:
    path = results / CALIBRATION
    if not path.exists():
        return {"chosen": {}, "tried": []}
    try:
        found = read_json(path)
        return {"chosen": dict(found["chosen"]), "tried": list(found["tried"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is no calibration ({error!r}): remove it, and {ASK}") from None
