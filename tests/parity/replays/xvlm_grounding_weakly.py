"""The Grad-CAM maps of X-VLM's weakly supervised grounding (docs/official/xvlm.md §7.4)."""

from __future__ import annotations

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.xvlm_models import loaded_sums, model_of, task_batch
from xvlm.models.model_grounding import XVLM


@replay("xvlm", "grounding_weakly", modes=(PLAIN, TRAINING_PATH))
def grounding_weakly(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode, model_class=XVLM), task_batch(fixture)
    yield from loaded_sums(fixture, model)
    yield "gradcam", model.grounding_maps(batch["image"], batch["text_ids"], batch["text_masks"])
