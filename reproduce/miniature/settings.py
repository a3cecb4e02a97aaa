"""What ``miniature.yaml`` says, and the hash of what a run is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, MinLen
from pydantic import Field

from epic_common.config import PRESETS, WITHOUT_TEACHER
from reproduce.experiments import FOLDER
from scenes.levels import LEVELS
from vlp.baseline import REGISTRY
from vlp.config.kinds import Choices, Count, Name, Positive, PositiveAmount
from vlp.config.nearest import did_you_mean
from vlp.config.schema import ConfigError, Schema, check
from vlp.yaml_dialect.yaml_file import read_yaml

SETTINGS = FOLDER / "miniature.yaml"
RESULTS = FOLDER / "results" / "miniature"
COMPUTE = "vanilla_compute"  # vanilla with EPIC's additional FLOPs as additional steps
TEACHER = "teacher"  # vanilla to the end, one for all runs of a baseline
# Variant -> the keys of EPIC that make it.
VARIANTS: dict[str, dict[str, Any]] = {**PRESETS, COMPUTE: {"enabled": False}, **WITHOUT_TEACHER}
Items = list[Name]


class ScenesSettings(Schema):
    """The pictures of all runs."""

    level: Annotated[str, Choices(LEVELS)] = Field(description="difficulty")
    images: Annotated[int, Ge(8)] = Field(description="that are pre-trained on")
    tested: Annotated[int, Ge(2)] = Field(description="that are ranked, with a caption each")
    task_images: Annotated[int, Ge(8)] = Field(description="that are fine-tuned on")
    seed: Count = Field(description="of the scenes")


class LanguageModelSettings(Schema):
    """The masked language model in place of a released one."""

    grammar_seed: Count = Field(description="of the captions that it is fitted to; 0 is that of the pictures")
    lines: Annotated[int, Ge(100)] = Field(description="of these captions")
    steps: Positive = Field(description="of fitting")
    fitted_steps: Positive = Field(description="more, on the captions of the pictures: LM (trained)")


class FineTuning(Schema):
    """How the last checkpoint is fine-tuned: METER and ViLT on NLVR2, ALBEF and X-VLM on VQA."""

    epochs: Positive = Field(description="passes over it")
    rate: PositiveAmount = Field(description="learning rate")
    items: Items = Field(description="further keys of the official command")


class BaselineSettings(Schema):
    """A baseline's runs."""

    image_size: Annotated[int, Ge(32)] = Field(description="pixels that scenes are drawn in")
    batch: Annotated[int, Ge(2)] = Field(description="pairs of a step")
    steps: Annotated[int, Ge(5)] = Field(description="the budget of pre-training")
    teacher_steps: Positive = Field(description="of the teacher's pre-training")
    rate: PositiveAmount = Field(description="learning rate of pre-training")
    width: Annotated[int, Ge(32)] = Field(description="of the language model, 32 a head")
    small: Items = Field(description="keys of every command")
    pretraining: Items = Field(description="keys of pre-training")
    scoring: Items = Field(description="keys of zero-shot retrieval")
    fine_tuning: FineTuning = Field(description="the task")
    tried: Annotated[list[dict[str, Any]], MinLen(1)] = Field(description="what calibrate tries: other values of these")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        if self.width % 32:
            yield f"width={self.width} is not a multiple of 32"


class Miniature(Schema):
    """All of it."""

    seeds: Annotated[list[Count], MinLen(2)] = Field(description="of the runs that are compared")
    teacher_seed: Count = Field(description="of the teacher")
    calibration_seed: Count = Field(description="of the runs of calibrate")
    points: Positive = Field(description="of a learning curve, the last at the budget")
    threads: Positive = Field(description="cores of a run")
    scenes: ScenesSettings = Field(description="the pictures")
    language_model: LanguageModelSettings = Field(description="in place of a released one")
    baselines: Annotated[dict[str, BaselineSettings], MinLen(1)] = Field(description="their runs")

    def relations(self) -> Iterator[str]:
        yield from super().relations()
        apart = [*self.seeds, self.teacher_seed, self.calibration_seed]
        if len(set(apart)) < len(apart):
            yield f"seeds={self.seeds}, teacher_seed and calibration_seed must all differ"

    def baseline(self, name: str) -> BaselineSettings:
        """One of them.

        Raises:
            ConfigError: it has no settings.
        """
        if name not in self.baselines:
            raise ConfigError(f"baselines has no {name!r}{did_you_mean(name, self.baselines)}")
        return self.baselines[name]

    @property
    def shared(self) -> dict[str, Any]:
        """What all runs have in common."""
        return self.model_dump(include={"points", "threads", "teacher_seed", "scenes", "language_model"})


def read_settings(path: Path = SETTINGS) -> Miniature:
    """The settings of a file.

    Raises:
        ConfigError: a line for each key that is unknown, missing or wrong; names the file.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no keys")
    baselines = values.get("baselines")
    if isinstance(baselines, Mapping):
        if unknown := [name for name in baselines if name not in REGISTRY]:
            raise ConfigError(f"{path}: baselines: {unknown[0]!r} is no baseline{did_you_mean(unknown[0], REGISTRY)}")
        for name, block in baselines.items():
            _check_block(f"{path}: baselines.{name}", BaselineSettings, block)
    _check_block(str(path), Miniature, values)
    settings = Miniature.model_validate(values)
    for name, block in settings.baselines.items():
        for changes in block.tried:
            changed(block, changes, f"{path}: baselines.{name}.tried")
    return settings


def changed(block: BaselineSettings, changes: Mapping[str, Any], where: str) -> BaselineSettings:
    """A baseline's settings with other values.

    Raises:
        ConfigError: a key or value is wrong; ``where`` it stands.
    """
    values = {**block.model_dump(), **changes}
    _check_block(where, BaselineSettings, values)
    return BaselineSettings.model_validate(values)


def digest(values: Any) -> str:
    """A short hash of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _check_block(where: str, schema: type[Schema], values: Any) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: holds no keys")
    try:
        check(schema, values)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None
