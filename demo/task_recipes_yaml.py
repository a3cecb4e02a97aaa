"""The runs of the downstream tasks of a baseline with YAML files and a script a task: ALBEF and X-VLM."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from demo.sizes import POSITIONS
from demo.task_recipes import Recipe, TaskRecipes, TaskSettings
from demo.task_scores import Score
from demo.task_scores_yaml import scores
from demo.yaml_demo import YamlDemo
from vlp.files import read_json


@dataclass(frozen=True, kw_only=True)
class YamlTasks(TaskRecipes):
    """A subclass gives the recipes.

    Attributes:
        listed: JSON lists whose texts the language model is fitted to.
        text_config: the block of the text model's sizes.
    """

    listed: tuple[str, ...]
    text_config: ClassVar[str]
    text_layers: ClassVar = YamlDemo.text_layers

    @abstractmethod
    def learning(self, recipe: Recipe) -> list[str]:
        """Items of a run that trains."""

    @abstractmethod
    def text_encoder(self, folder: str) -> list[str]:
        """Arguments that name the folder of tokenizer and text encoder."""

    def texts(self, settings: TaskSettings) -> list[str]:
        """The candidate answers, and the captions, questions, sentences and expressions of the JSON lists."""
        folder = lists(settings)
        found: list[str] = read_json(folder / "answer_list.json")
        for name in self.listed:
            for row in read_json(folder / f"{name}.json"):
                said = next(row[key] for key in ("caption", "question", "sentence", "text") if key in row)
                found += [said] if isinstance(said, str) else said
        return list(dict.fromkeys(found))

    def command(self, recipe: Recipe, items: Sequence[str], output: Path) -> list[str]:
        config = f"./configs/tiny/{recipe.config or recipe.script}.yaml"
        start = ["--checkpoint", str(recipe.checkpoint)] if recipe.checkpoint else []
        return [f"{recipe.script}.py", "--config", config, "--output_dir", str(output), *start, *items]

    def overrides(self, settings: TaskSettings, recipe: Recipe) -> list[str]:
        size = read_json(settings.language_model / "config.json")["vocab_size"]
        return [
            *(*self.text_encoder(str(settings.language_model)), "--seed", str(settings.seed)),
            *(self.learning(recipe) if recipe.epochs else ["--evaluate"]),
            *recipe.items,
            *(f"{self.text_config}.vocab_size={size}", f"{self.text_config}.max_position_embeddings={POSITIONS}"),
            "num_workers=0",
        ]

    def scores(self, settings: TaskSettings, task: str) -> list[Score]:
        return scores(task, settings.output / task, lists(settings))


def lists(settings: TaskSettings) -> Path:
    """The folder of the JSON lists."""
    return settings.data / "lists"


def files(settings: TaskSettings, **names: str) -> list[str]:
    """``{key}_file=`` the JSON lists of these names, with a space between two."""
    items = []
    for key, value in names.items():
        paths = ",".join(str(lists(settings) / f"{name}.json") for name in value.split())
        items.append(f"{key}_file={f'[{paths}]' if ',' in paths else paths}")
    return items


def at_rate(recipe: Recipe, *further: str) -> list[str]:
    """Items of a run of a recipe's epochs and learning rate, which a second call goes on with."""
    rates = [f"{block}.lr={recipe.rate}" for block in ("optimizer", "schedular")]
    return [f"schedular.epochs={recipe.epochs}", *further, *rates, "resume_from=auto"]
