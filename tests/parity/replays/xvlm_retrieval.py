"""X-VLM's retrieval: loaded parameters, states, the training step, its evaluation (docs/official/xvlm.md §7.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, once, piece, replay
from tests.parity.replays.fusion_passes import Shown
from tests.parity.replays.xvlm_models import loaded_sums, model_of, negatives_of, task_batch, tensor
from tests.parity.replays.xvlm_states import (
    eq8,
    features,
    fusion_states,
    matched,
    similarities,
    teacher_eq8,
    vision,
)
from vlp.evaluation.reranked_retrieval import RerankedRetrieval
from vlp.losses.matching import same_image
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import PaddedLayout
from xvlm.models.model_retrieval import XVLM


@replay("xvlm", "retrieval", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def retrieval(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), task_batch(fixture, image_id="idx")
    image, layout = once(lambda: model.image_states(batch["image"])[0]), once(lambda: _layout(model, batch, mode))
    text, shown = once(lambda: model.text_states(batch["text_ids"], layout())[0]), once(lambda: Shown(image()))
    yield from features(model, image, text, layout, lambda: batch["image_id"])
    if mode == PLAIN:
        yield from loaded_sums(fixture, model)
        yield from vision(model, batch, image)
        similar = once(lambda: similarities(model, image(), text(), layout()))
        yield "loss_itc", lambda: _contrast(similar(), batch["image_id"])
        yield from matched(fixture, model, shown, text, batch)
        yield from eq8(model, shown, text, batch)
        yield from fusion_states(model, batch, image)
        if fixture.stores("score_"):
            yield from _evaluated(fixture, model, batch)
        return
    yield from teacher_eq8(model, shown, text, layout, batch)
    outputs = model(batch.whole(), negatives_of(fixture))
    yield "loss_itc", outputs["itc_loss"]
    yield "loss_itm", outputs["itm_loss"]
    yield "itm_logits", outputs["itm_logits"]


def _layout(model: XVLM, batch: Given, mode: str) -> PaddedLayout:
    if mode == PLAIN:
        return PaddedLayout(batch["text_masks"].bool())
    return model.text_layout(TextPlan.of(batch["text_masks"]))


def _contrast(similar: Tensor, image_id: Tensor) -> Tensor:
    same = same_image(image_id).float()
    losses = [-(same / same.sum(dim=1) * each.log_softmax(dim=1)).sum() / len(same) for each in (similar, similar.T)]
    return torch.stack(losses).mean()


@piece
def _evaluated(fixture: Fixture, model: XVLM, batch: Given) -> Outputs:
    """The images of the batch against the texts of the evaluation."""
    ids, mask = (tensor(fixture.inputs[f"eval_text_{name}"]) for name in ("ids", "atts"))
    evaluation = RerankedRetrieval(model, len(batch["image"]), len(ids), fixture.config["k_test"], "the fixture's")
    evaluation.add_texts(ids, mask)
    evaluation.add_images(batch["image"], torch.arange(len(batch["image"])))
    scores = evaluation.scores()
    yield "score_i2t", scores.image_to_text
    yield "score_t2i", scores.text_to_image
