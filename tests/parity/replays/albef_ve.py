"""ALBEF's SNLI-VE logits and loss; also of a model that is loaded from a checkpoint of another image size."""

from __future__ import annotations

from albef.models.model_ve import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.albef_classes import classified
from tests.parity.replays.albef_models import model_of, task_batch


@replay("albef", "ve", modes=(PLAIN, TRAINING_PATH))
def ve(fixture: Fixture, mode: str) -> Outputs:
    model = model_of(ALBEF, fixture, mode)
    batch = task_batch(fixture, labels="targets")
    yield from classified(fixture, model, batch, mode)
