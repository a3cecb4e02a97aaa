"""X-VLM's captioning: the loss of the domain stage (docs/official/xvlm.md §7.5)."""

from __future__ import annotations

import torch

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.xvlm_captioning import losses


@replay("xvlm", "captioning_pretrain", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def captioning_pretrain(fixture: Fixture, mode: str) -> Outputs:
    yield from losses(fixture, mode)
