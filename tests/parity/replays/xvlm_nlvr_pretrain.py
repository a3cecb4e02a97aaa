"""X-VLM's text assignment for NLVR2 (docs/official/xvlm.md §7.3)."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.xvlm_models import loaded_sums, model_of, task_batch, tensor
from vlp.losses.text_assignment import NEITHER, OWN_FIRST, OWN_SECOND, Assignment
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout


@replay("xvlm", "nlvr_pretrain", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def nlvr_pretrain(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), task_batch(fixture)
    yield from loaded_sums(fixture, model)
    image = model.vision_encoder(batch["image"])
    yield "weights", model.similarities(image).softmax(dim=1) * (1 - torch.eye(len(image)))
    if mode == TRAINING_PATH:
        outputs = model(batch.whole(), drawn(fixture, len(image)))
        yield "logits", outputs["logits"]
        yield "loss", outputs["ta_loss"]
        return
    shown = drawn(fixture, len(image))
    layout = PaddedLayout(batch["text_masks"].bool())
    state = model.text_encoder(batch["text_ids"], layout, [image[shown.first], image[shown.second]], Seen())[:, 0]
    logits = model.ta_head(state)
    yield "cls_state", state
    yield "logits", logits
    yield "loss", F.cross_entropy(logits, shown.labels)


def drawn(fixture: Fixture, size: int) -> Assignment:
    """What the official loop over samples makes of its uniform numbers and of the indices that it draws."""
    uniform, picks = (iter(tensor(fixture.choices[name]).tolist()) for name in ("rand", "picks"))
    rows = []
    for own in range(size):
        if next(uniform) > 1 / 3:
            other = next(picks)
            rows.append((own, other, OWN_FIRST) if next(uniform) > 0.5 else (other, own, OWN_SECOND))
        else:
            rows.append((next(picks), next(picks), NEITHER))
    return Assignment(*torch.tensor(rows).T)
