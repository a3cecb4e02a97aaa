"""What ``demo.tasks`` needs to know of a baseline: its tasks, their data and their command lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


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
    def lists(self) -> Path:
        """The JSON lists."""
        return self.data / "lists"

    @property
    def language_model(self) -> Path:
        """The masked LM that stands in for a released BERT."""
        return self.data / "bert-tiny"

    def done(self, run: str) -> Path:
        """What is there once a run is complete."""
        return self.output / f"{run}.json"

    def files(self, **names: str) -> list[str]:
        """``{key}_file=`` the JSON lists of these names, with a space between two."""
        items = []
        for key, value in names.items():
            paths = ",".join(str(self.lists / f"{name}.json") for name in value.split())
            items.append(f"{key}_file={f'[{paths}]' if ',' in paths else paths}")
        return items


class Recipe(NamedTuple):
    """A run of a script.

    Attributes:
        script: without ``.py``.
        checkpoint: that it starts from.
        epochs: passes over the training set; 0: it is scored.
        items: its keys, beside those that all runs of the baseline have.
        config: the file of ``configs/tiny``, where its name is not the script's.
        rate: the learning rate.
    """

    script: str
    checkpoint: Path | None
    epochs: int
    items: Sequence[str]
    config: str = ""
    rate: float = 5e-4


@dataclass(frozen=True)
class TaskRecipes:
    """Of a baseline.

    Attributes:
        tasks: in their order.
        needs: the runs of a task that is not one run of its name.
        image_size: pixels that scenes are drawn in.
        layouts: raw layouts beside COCO's.
        convert: makes ``converted`` in the data folder, and everything else that runs read.
        converted: its last file.
        texts: JSON lists whose texts the language model is fitted to.
        recipes: by run.
        learning: items of a run that trains.
        text_encoder: arguments that name the folder of tokenizer and text encoder.
        text_config: the block of the text model's sizes.
        seconds: of a core, by run.
    """

    tasks: tuple[str, ...]
    needs: Mapping[str, Sequence[str]]
    image_size: int
    layouts: tuple[str, ...]
    convert: Callable[[TaskSettings], None]
    converted: str
    texts: tuple[str, ...]
    recipes: Callable[[TaskSettings], dict[str, Recipe]]
    learning: Callable[[Recipe], list[str]]
    text_encoder: Callable[[str], list[str]]
    text_config: str
    seconds: Callable[[TaskSettings], Mapping[str, float]]

    def runs(self, settings: TaskSettings) -> list[str]:
        """In order: pre-training, and what each task needs."""
        needed = [name for task in settings.tasks for name in self.needs.get(task, (task,))]
        return ["Pretrain", *dict.fromkeys(needed)]


def words_of_lists(settings: TaskSettings, names: Sequence[str]) -> list[str]:
    """The candidate answers, and the captions, questions, sentences and expressions of JSON lists, each once."""
    texts: list[str] = json.loads((settings.lists / "answer_list.json").read_text())
    for name in names:
        for row in json.loads((settings.lists / f"{name}.json").read_text()):
            said = next(row[key] for key in ("caption", "question", "sentence", "text") if key in row)
            texts += [said] if isinstance(said, str) else said
    return list(dict.fromkeys(texts))
