"""The scores of the downstream tasks, each beside what it would be without the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from demo.chance import Blind, recall_by_chance
from demo.sizes import CAPTIONS_PER_IMAGE


@dataclass(frozen=True)
class Score:
    """A score of a task.

    Attributes:
        task: its name.
        metric: its name in the run's results.json.
        value, chance, blind: in percent; ``blind`` is what question, sentence or boxes alone give, None where there is
            nothing but the image to go by.
        items: questions, pairs, statements, expressions; of retrieval images.
    """

    task: str
    metric: str
    value: float
    chance: float
    blind: float | None
    items: int


def beside_blind(task: str, metric: str, value: float, blind: Blind) -> Score:
    """A share of right answers, 0 to 1."""
    return Score(task, metric, 100 * value, 100 * blind.chance, 100 * blind.alone, blind.items)


def recall_scores(task: str, names: Mapping[str, str], percent: Mapping[str, float], images: int) -> list[Score]:
    """R@1 and R@10 of texts ("tr") and of images ("ir").

    Args:
        names: of a way, the metric's name with ``{}`` for k.
        percent: by the metric's name.
    """
    rows = []
    for way, relevant, candidates in (("tr", CAPTIONS_PER_IMAGE, CAPTIONS_PER_IMAGE * images), ("ir", 1, images)):
        for k in (1, 10):
            metric, chance = names[way].format(k), recall_by_chance(relevant, candidates, k)
            rows.append(Score(task, metric, percent[metric], chance, None, images))
    return rows
