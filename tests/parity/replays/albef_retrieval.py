"""ALBEF's retrieval and grounding model: scores, Grad-CAM maps, the training step (docs/official/albef.md §5, §7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from albef.models.model_grounding import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, piece, replay
from tests.parity.replays.albef_models import Batch, alpha_of, model_of, negatives_of, steps_of, task_batch, weights
from tests.parity.replays.fusion_passes import Shown, matching
from vlp.losses.matching import same_image
from vlp.nn.cross_attention import Seen
from vlp.nn.packed_text import TextLayout, TextPlan
from vlp.nn.padding import PaddedLayout


@replay("albef", "retrieval", modes=(PLAIN, TRAINING_PATH))
def retrieval(fixture: Fixture, mode: str) -> Outputs:
    model = model_of(ALBEF, fixture, mode, gradcam_mode="itm")
    batch = task_batch(fixture, image_id="idx")
    yield from _evaluated(model, batch, mode)
    yield from _maps(fixture, model, batch)
    for step in steps_of(fixture):
        for name, value in (_plain if mode == PLAIN else _trained)(fixture, model, batch, step):
            yield f"step{step}.{name}", value


@torch.no_grad()
@piece
def _evaluated(model: ALBEF, batch: Batch, mode: str) -> Outputs:
    """Every pair, as the evaluation scores it, or one image with one padded text after the other."""
    ids, mask = batch["text_ids"], batch["text_masks"]
    images, image_feat = model.image_states(batch["image"])
    layout = TextLayout(TextPlan.of(mask)) if mode == TRAINING_PATH else PaddedLayout(mask.bool())
    states, text_feat = model.text_states(ids, layout)
    yield "eval.sims", image_feat @ text_feat.T
    if isinstance(layout, TextLayout):
        yield "eval.itm_score", torch.stack([model.match_scores(states, layout, image[None]) for image in images])
        return
    pairs = [model.bert(ids, layout, image.expand(len(ids), -1, -1), Seen())[:, 0] for image in images]
    yield "eval.itm_score", torch.stack([model.itm_head(pair)[:, 1] for pair in pairs])


@piece
def _maps(fixture: Fixture, model: ALBEF, batch: Batch) -> Outputs:
    model.config["block_num"] = int(fixture.inputs["gradcam_block"])
    inputs = batch["image"], batch["text_ids"], batch["text_masks"]
    maps, logits = model.token_maps(*inputs)
    yield "gradcam.itm_logits", logits
    yield "gradcam.per_token_sum", maps.sum(dim=(2, 3))
    yield "gradcam.map", maps.mean(dim=1)
    yield "grounding.itm", model.grounding_maps(*inputs)
    model.config["gradcam_mode"] = "itc"
    yield "grounding.itc", lambda: model.grounding_maps(*inputs)  # none where the image encoder has no such block


def _state(model: ALBEF) -> Outputs:
    yield "idx_queue_head", model.idx_queue
    yield "queue_ptr", model.queue_ptr


@torch.no_grad()
@piece
def _trained(fixture: Fixture, model: ALBEF, batch: Given, step: int) -> Outputs:
    yield "image_feat", lambda: model.image_states(batch["image"])[1]
    outputs = model(batch.whole(), alpha_of(fixture, step), negatives_of(fixture, step))
    layout = model.text_layout(TextPlan.of(batch["text_masks"]))
    text_m = model.bert_m.text(batch["text_ids"], layout)
    yield "loss_ita", outputs["ita_loss"]
    yield "loss_itm", outputs["itm_loss"]
    yield "itm_logits", outputs["itm_logits"]
    yield "text_feat_m", F.normalize(model.text_proj_m(layout.first(text_m)[:, 0]), dim=-1)
    yield from _state(model)


@torch.no_grad()
@piece
def _plain(fixture: Fixture, model: ALBEF, batch: Given, step: int) -> Outputs:
    image, image_feat = model.image_states(batch["image"])
    yield "image_feat", image_feat
    layout = PaddedLayout(batch["text_masks"].bool())
    text, text_feat = model.text_states(batch["text_ids"], layout)
    yield from _matched(fixture, model, image, text, batch, step)
    own, matches = model.true_targets(batch["image_id"]), same_image(batch["image_id"])
    alpha = alpha_of(fixture, step)
    momentum = model.momentum_states(batch["image"], [batch["text_ids"]], layout)
    yield "text_feat_m", momentum.text_feat
    outputs, similar = model.contrast(image_feat, text_feat, momentum, own, alpha if model.config["distill"] else 0.0)
    model.enqueue_features(momentum, batch["image_id"])
    yield "loss_ita", outputs["ita_loss"]
    yield "weights_t2i", weights(similar.text_to_image, matches)
    yield "weights_i2t", weights(similar.image_to_text, matches)
    yield from _state(model)


@piece
def _matched(fixture: Fixture, model: ALBEF, image: Tensor, text: Tensor, batch: Given, step: int) -> Outputs:
    words, negatives = batch["text_masks"].bool(), negatives_of(fixture, step)
    yield from matching(model.bert, model.itm_head, Shown(image), text, words, negatives)
