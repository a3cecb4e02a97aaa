"""What ``demo.tasks`` needs to know of a baseline: its tasks, their data and their command lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from demo.task_scores import Score
from vlp.baseline import get_baseline


@dataclass(frozen=True)
class TaskSettings:
    """Sizes of the scenes, of the language model and of pre-training."""

    baseline: str
    output: Path
    tasks: tuple[str, ...]
    train_images: int = 1500
    val_images: int = 100
    test_images: int = 200
    lm_steps: int = 300
    pretrain_epochs: int = 20
    seed: int = 0

    @property
    def data(self) -> Path:
        """Raw layouts, and what they are converted to."""
        return self.output / "data"

    @property
    def language_model(self) -> Path:
        """The masked LM that stands in for a released one."""
        return self.data / f"{get_baseline(self.baseline).text_family}-tiny"

    def done(self, run: str) -> Path:
        """What is there once a run is complete."""
        return self.output / f"{run}.json"


class Recipe(NamedTuple):
    """A run of a script.

    Attributes:
        script: without ``.py``.
        checkpoint: that it starts from.
        epochs: passes over the training set; 0: it is scored.
        items: its keys, beside those that all runs of the baseline have.
        config: the task's named config; of a YAML dialect the file of ``configs/tiny``, where its name is not the
            script's.
        rate: the learning rate.
    """

    script: str
    checkpoint: Path | None
    epochs: int
    items: Sequence[str]
    config: str = ""
    rate: float = 5e-4


@dataclass(frozen=True, kw_only=True)
class TaskRecipes(ABC):
    """Of a baseline; a subclass for each dialect.

    Attributes:
        tasks: in their order.
        needs: the runs of a task that is not one run of its name.
        image_size: pixels that scenes are drawn in.
        layouts: raw layouts beside COCO's.
        converted: the last file that :meth:`convert` makes in the data folder.
        pretrain_epochs: by default.
    """

    tasks: tuple[str, ...]
    needs: Mapping[str, Sequence[str]]
    image_size: int
    layouts: tuple[str, ...]
    converted: str
    pretrain_epochs: int = 20
    text_layers: ClassVar[int]  # of the language model

    def runs(self, settings: TaskSettings) -> list[str]:
        """In order: pre-training, and what each task needs."""
        needed = [name for task in settings.tasks for name in self.needs.get(task, (task,))]
        return ["Pretrain", *dict.fromkeys(needed)]

    @abstractmethod
    def convert(self, settings: TaskSettings) -> None:
        """Make ``converted``, and everything else that runs read, by the converters of the real data sets."""

    @abstractmethod
    def texts(self, settings: TaskSettings) -> list[str]:
        """What the language model is fitted to, each text once."""

    @abstractmethod
    def recipes(self, settings: TaskSettings) -> dict[str, Recipe]:
        """By run."""

    @abstractmethod
    def seconds(self, settings: TaskSettings) -> Mapping[str, float]:
        """Of a core, by run; what is not there takes a usual time."""

    def arguments(self, settings: TaskSettings, name: str) -> list[str]:
        """The official command of a run with the baseline's small model, after Python."""
        recipe = self.recipes(settings)[name]
        return self.command(recipe, self.overrides(settings, recipe), settings.output / name)

    @abstractmethod
    def command(self, recipe: Recipe, items: Sequence[str], output: Path) -> list[str]:
        """The official command of a recipe, after Python: ``items`` are all of its arguments but those that the recipe
        names, ``output`` is the run's folder."""

    @abstractmethod
    def overrides(self, settings: TaskSettings, recipe: Recipe) -> list[str]:
        """What makes the official command small: all of it but script, config, output folder and checkpoint."""

    @abstractmethod
    def scores(self, settings: TaskSettings, task: str) -> list[Score]:
        """Of a task whose runs are complete, beside chance."""
