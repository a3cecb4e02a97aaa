"""SNLI-VE as ALBEF's lists have it.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

import random

from albef.models.model_ve import CLASSES
from vlp.data.json.dataset import JsonDataset, Sample
from vlp.data.json.fields import Row
from vlp.data.json.kinds import ENTAILMENTS
from vlp.data.json.text import pre_caption

LABELS = {name: number for number, name in enumerate(CLASSES)}
EXTENSION = ".jpg"  # the lists leave it out


class EntailmentDataset(JsonDataset):
    """``text``, the hypothesis, and ``labels``, its number in :data:`LABELS`."""

    kind = ENTAILMENTS

    def names(self, row: Row) -> list[str]:
        return [row["image"] + EXTENSION]

    def fields(self, index: int, row: Row, rng: random.Random) -> Sample:
        return {"text": pre_caption(row["sentence"]), "labels": LABELS[row["label"]]}


class EntailmentTrainDataset(EntailmentDataset):
    """Pairs to learn from."""

    training = True


class EntailmentTestDataset(EntailmentDataset):
    """Pairs to judge."""

    training = False
