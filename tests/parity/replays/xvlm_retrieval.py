"""X-VLM's retrieval: loaded parameters, states, the training step, its evaluation (docs/official/xvlm.md §7.1)."""

from __future__ import annotations

import torch

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, fusion_passes, replay
from tests.parity.replays.fusion_passes import Shown
from tests.parity.replays.xvlm_models import Batch, loaded_sums, model_of, negatives_of, task_batch, tensor
from tests.parity.replays.xvlm_states import eq8, features, fusion_states, teacher_eq8, vision
from vlp.evaluation.reranked_retrieval import RerankedRetrieval
from vlp.losses.matching import same_image
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import PaddedLayout
from xvlm.models.model_retrieval import XVLM


@replay("xvlm", "retrieval", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def retrieval(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), task_batch(fixture, image_id="idx")
    if mode == PLAIN:
        yield from loaded_sums(fixture, model)
        yield from _plain(fixture, model, batch)
        if "eval_text_ids" in fixture.inputs:
            yield from _evaluated(fixture, model, batch)
        return
    outputs = model(batch, negatives_of(fixture))
    yield "loss_itc", outputs["itc_loss"]
    yield "loss_itm", outputs["itm_loss"]
    yield "itm_logits", outputs["itm_logits"]
    image, layout = model.image_states(batch["image"])[0], model.text_layout(TextPlan.of(batch["text_masks"]))
    text = model.text_states(batch["text_ids"], layout)[0]
    yield from features(model, image, text, layout, batch["image_id"])
    yield from teacher_eq8(model, Shown(image), text, layout, batch["text_masks"].bool())


def _plain(fixture: Fixture, model: XVLM, batch: Batch) -> Outputs:
    words = batch["text_masks"].bool()
    image, layout = (yield from vision(model, batch)), PaddedLayout(words)
    text = model.bert.text(batch["text_ids"], layout)
    similar = yield from features(model, image, text, layout, batch["image_id"])
    same = same_image(batch["image_id"]).float()
    losses = [-(same / same.sum(dim=1) * each.log_softmax(dim=1)).sum() / len(same) for each in (similar, similar.T)]
    yield "loss_itc", sum(losses) / 2
    yield from fusion_passes.matching(model.bert, model.itm_head, Shown(image), text, words, negatives_of(fixture))
    yield from eq8(model, Shown(image), text, words)
    yield from fusion_states(model, batch, image)


def _evaluated(fixture: Fixture, model: XVLM, batch: Batch) -> Outputs:
    """The images of the batch against the texts of the evaluation."""
    ids, mask = (tensor(fixture.inputs[f"eval_text_{name}"]) for name in ("ids", "atts"))
    evaluation = RerankedRetrieval(model, len(batch["image"]), len(ids), fixture.config["k_test"], "the fixture's")
    evaluation.add_texts(ids, mask)
    evaluation.add_images(batch["image"], torch.arange(len(batch["image"])))
    scores = evaluation.scores()
    yield "score_i2t", scores.image_to_text
    yield "score_t2i", scores.text_to_image
