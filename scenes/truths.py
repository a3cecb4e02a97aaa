"""The ground truth of an image as JSON records: regions, questions, entailments, salient words and foils.

Boxes are (x0, y0, x1, y1) in shares of the image's side; spans are character positions [start, end).
"""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any

from scenes.entailments import entailments
from scenes.foils import foils
from scenes.model import Caption, Scene
from scenes.questions import questions
from scenes.regions import regions
from scenes.statements import statements
from scenes.statistics import Statistics


def truth_record(
    scene: Scene, captions: dict[int, Caption], statistics: Statistics, rng: random.Random
) -> dict[str, Any]:
    """Return everything that is known of one image; `captions` maps sentence ids to its captions."""
    premise = next(iter(captions.values())).text
    return {
        "scene": asdict(scene),
        "captions": [_caption(sentid, caption, scene, statistics, rng) for sentid, caption in captions.items()],
        "regions": [asdict(region) for region in regions(scene)],
        "questions": [asdict(question) for question in questions(scene, rng)],
        "entailments": [{"premise": premise} | asdict(entailment) for entailment in entailments(scene, rng)],
    }


def statement_records(left: Scene, right: Scene, right_cocoid: int, rng: random.Random) -> list[dict[str, Any]]:
    """Return statements about the pair of images (left, right) with their labels."""
    return [{"right_cocoid": right_cocoid} | asdict(statement) for statement in statements(left, right, rng)]


def _caption(sentid: int, caption: Caption, scene: Scene, statistics: Statistics, rng: random.Random) -> dict[str, Any]:
    return {
        "sentid": sentid,
        "raw": caption.text,
        "salient": [[span.start, span.end] for span in caption.salient],
        "spans": [
            {"start": span.start, "end": span.end, "field": span.slot.field, "salient": span.salient}
            for span in caption.spans
        ],
        "foils": [asdict(foil) for foil in foils(caption, scene, statistics, rng)],
    }
