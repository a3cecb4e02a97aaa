"""The results that a report is made of: runs of one configuration each, Fig. 2's records, the calibration."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model

from reproduce.miniature.claims import BASELINES, TEXT_ONLY, VARIANTS, WITH_IMAGE
from reproduce.miniature.results import CALIBRATION, RUNS, Run, read_runs
from reproduce.miniature.settings import digest
from vlp.config.schema import ConfigError, Schema
from vlp.files import read_json

S = TypeVar("S", bound=Schema)
Seeds = Mapping[int, Run]
FIGURES = {"2a": "figure2a.json", "2b": "figure2b.json"}
_KINDS: dict[str, Any] = {name: (kind, ...) for name, kind in get_type_hints(Run).items()}
_Fields = create_model("_Fields", __base__=Schema, **_KINDS)
OF_VARIANT = "epic"  # the key of a run's settings that makes its variant
_POINT = ("step", "tr_r1", "ir_r1")


class Tried(Schema):
    """A vanilla run of the calibration."""

    model_config = ConfigDict(extra="ignore")

    baseline: str
    settings: dict[str, Any]
    tr_r1: float
    ir_r1: float
    seconds: float
    commit: str


class Chosen(Schema):
    """What calibration changed of a baseline's settings."""

    model_config = ConfigDict(extra="ignore")

    changes: dict[str, Any]


class Calibration(Schema):
    """calibration.json: what it chose for each baseline, and the runs that it looked at."""

    model_config = ConfigDict(extra="ignore")

    chosen: dict[str, Chosen]
    tried: list[Tried]


@dataclass(frozen=True)
class Results:
    """What was measured.

    Attributes:
        runs: by baseline and variant, then by seed; all of a baseline have the same settings.
        figures: content of figure2a.json and figure2b.json, by "2a" and "2b"; absent where there is none.
        calibration: None: there is none.
        left_out: a line for each run that is not shown, with the reason.
    """

    runs: Mapping[tuple[str, str], Seeds]
    figures: Mapping[str, Mapping[str, Any]]
    calibration: Calibration | None
    left_out: tuple[str, ...]

    def of(self, baseline: str, variant: str) -> Seeds:
        """The runs of a variant by seed; empty if there is none."""
        return self.runs.get((baseline, variant), {})

    def seeds(self, baseline: str) -> list[int]:
        """All that any variant of the baseline has."""
        return sorted({seed for (name, _), seeds in self.runs.items() if name == baseline for seed in seeds})


def read_results(folder: Path) -> Results:
    """All results in ``folder``.

    Runs that are compared have the same settings but for EPIC's keys: of a baseline whose runs have several settings,
    those that most of them have are shown.

    Raises:
        ConfigError: a file is broken, or two say that they are the same run; names the file and what is wrong.
    """
    runs = read_runs(folder)
    for run in runs:
        _check(run, folder / RUNS / f"{run.name}.json")
    if twice := [name for name, count in Counter(run.name for run in runs).items() if count > 1]:
        raise ConfigError(f"{folder / RUNS}: several files hold the run {twice[0]}: remove all but one")
    of_baseline = _most(runs, lambda run: run.baseline, setting)
    of_variant = _most(runs, lambda run: (run.baseline, run.variant), _own)
    shown: dict[tuple[str, str], dict[int, Run]] = {}
    left_out = []
    for run in runs:
        key = (run.baseline, run.variant)
        if (most := of_baseline[run.baseline]) != setting(run):
            left_out.append(
                f"{run.name}: its configuration is {setting(run)}, that of most runs of its baseline {most}"
            )
        elif of_variant[key] != _own(run):
            left_out.append(f"{run.name}: {_own(run)} are not those of most runs of its variant: {of_variant[key]}")
        else:
            shown.setdefault(key, {})[run.seed] = run
    figures = {name: _figure(folder / file, name) for name, file in FIGURES.items() if (folder / file).exists()}
    return Results(shown, figures, _calibration(folder / CALIBRATION), tuple(left_out))


def shared_settings(run: Run) -> dict[str, Any]:
    """Its settings without those that make its variant."""
    return {key: value for key, value in run.settings.items() if key != OF_VARIANT}


def setting(run: Run) -> str:
    """A short hash of what all variants of a baseline share; a run's own hash has its variant and seed in it."""
    return digest(shared_settings(run))


def _own(run: Run) -> str:
    return f"{run.steps} steps and EPIC's keys {json.dumps(run.settings.get(OF_VARIANT), sort_keys=True)}"


def _most(runs: Sequence[Run], group: Callable[[Run], Any], value: Callable[[Run], str]) -> dict[Any, str]:
    """The value that most runs of a group have; of equally many the first in order."""
    counts: dict[Any, Counter[str]] = {}
    for run in sorted(runs, key=value):
        counts.setdefault(group(run), Counter())[value(run)] += 1
    return {key: each.most_common(1)[0][0] for key, each in counts.items()}


def _check(run: Run, path: Path) -> None:
    _checked(_Fields, dataclasses.asdict(run), path)
    for name, known in (("baseline", BASELINES), ("variant", VARIANTS)):
        if (value := getattr(run, name)) not in known:
            raise ConfigError(f"{path}: {name} is {value!r}; it must be one of {', '.join(known)}")
    if not run.points or run.points[-1].get("step") != run.steps:
        raise ConfigError(f"{path}: points must end at step {run.steps}, the budget; make the run again")
    for i, point in enumerate(run.points):
        if lacking := [key for key in _POINT if key not in point]:
            raise ConfigError(f"{path}: points.{i} has no {lacking[0]}; make the run again")


def _checked(schema: type[S], content: Mapping[str, Any], path: Path) -> S:
    try:
        return schema(**content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {where} is {first['input']!r:.80}: {first['msg']}; make it again") from None


def _calibration(path: Path) -> Calibration | None:
    return _checked(Calibration, _json(path), path) if path.exists() else None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise ConfigError(f"{path}: is no JSON ({error}); make it again") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no object; make it again")
    return content


def _figure(path: Path, name: str) -> dict[str, Any]:
    """Of ``reproduce figure``; its repeats have one seed each, and as many values as the curve has places."""
    content = _json(path)
    places = "steps" if name == "2a" else "shares"
    try:
        count = len(content[places])
        for repeat in content["repeats"]:
            for model in (WITH_IMAGE, TEXT_ONLY):
                values = repeat[model] if name == "2a" else repeat["drop"][model]
                if len(values) != count or not all(map(math.isfinite, values)):
                    raise ConfigError(f"{path}: seed {repeat['seed']}: {model} must have {count} finite values")
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is no record of Figure {name} ({error!r}); draw the figure again") from None
    if content["figure"] != name:
        raise ConfigError(f"{path}: is a record of Figure {content['figure']}, not {name}")
    return content
