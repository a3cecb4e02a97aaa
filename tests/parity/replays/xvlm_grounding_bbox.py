"""The boxes of X-VLM's grounding and their losses (docs/official/xvlm.md §5.4, §7.4)."""

from __future__ import annotations

import torch

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.xvlm_models import loaded_sums, model_of, task_batch


@replay("xvlm", "grounding_bbox", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def grounding_bbox(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), task_batch(fixture, target_bbox="target_bbox")
    yield from loaded_sums(fixture, model)
    outputs = model(batch.whole())
    yield "output_coord", outputs["box_coord"]
    yield "loss_bbox", outputs["bbox_loss"]
    yield "loss_giou", outputs["giou_loss"]
