"""X-VLM's captioning: the loss of fine-tuning (docs/official/xvlm.md §7.5)."""

from __future__ import annotations

import torch

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.xvlm_models import loaded_sums, model_of, tensor
from vlp.nn.step_plan import caption_plan


@replay("xvlm", "captioning", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def captioning(fixture: Fixture, mode: str) -> Outputs:
    yield from losses(fixture, mode)


def losses(fixture: Fixture, mode: str) -> Outputs:
    """The stored labels must be what the model predicts: all tokens behind the prompt."""
    given, model = fixture.inputs, model_of(fixture, mode)
    yield from loaded_sums(fixture, model)
    batch = {"image": tensor(given["image"]), "text_ids": tensor(given["text_ids"])}
    batch["text_masks"] = tensor(given["text_atts"])
    prompt_length = int(given.get("prompt_length", 1))
    labels, places = tensor(given["labels"]), torch.arange(batch["text_ids"].shape[1])
    predicted = batch["text_masks"].bool() & (places >= prompt_length)
    ours = batch["text_ids"].masked_fill(~predicted, -100)
    if not torch.equal(ours[:, 1:], labels[:, 1:]):  # the first one is shifted away
        raise ValueError(f"{fixture.path}: labels are not the tokens behind a prompt of {prompt_length}")
    yield "loss", model({**batch, **caption_plan(batch, prompt_length)})["lm_loss"]
