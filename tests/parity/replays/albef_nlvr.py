"""ALBEF's NLVR2 logits and loss (docs/official/albef.md §7)."""

from __future__ import annotations

from albef.models.model_nlvr import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.albef_classes import classified
from tests.parity.replays.albef_models import model_of, task_batch


@replay("albef", "nlvr", modes=(PLAIN, TRAINING_PATH))
def nlvr(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(ALBEF, fixture, mode), task_batch(fixture, labels="targets")
    yield from classified(fixture, model, batch, mode)
