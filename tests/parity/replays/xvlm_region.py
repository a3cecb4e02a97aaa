"""X-VLM's region pre-training step: region states, Eq. 8, logits, boxes, five losses in both settings of the boxes.

Source: docs/official/xvlm.md §4.2, §5.
"""

from __future__ import annotations

import torch

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.fusion_passes import Shown
from tests.parity.replays.xvlm_models import Batch, model_of, pretraining_batch
from tests.parity.replays.xvlm_pretrain import plain, trained
from vlp.nn.padding import PaddedLayout
from xvlm.models.model_pretrain import XVLM, shown_by


@replay("xvlm", "region", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def region(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), pretraining_batch(fixture)
    if mode == TRAINING_PATH:
        yield from trained(fixture, model, batch)
        model.config["calc_image_bbox_loss"] = True
        outputs = model(batch)
        yield "output_coord", outputs["box_coord"]
        yield "loss_bbox_all", outputs["bbox_loss"]
        yield "loss_giou_all", outputs["giou_loss"]
    else:
        yield from _plain(fixture, model, batch)


def _plain(fixture: Fixture, model: XVLM, batch: Batch) -> Outputs:
    shown = shown_by(model.vision_encoder, batch)
    whole = shown.whole[batch["idx_to_group_img"]]
    yield "region_pooled", shown.image
    yield "region_embeds", shown.image
    yield "full_pooled", whole
    text = yield from plain(fixture, model, batch, Shown(shown.image, shown.mask))
    coord = model.boxes(whole, text, PaddedLayout(batch["text_masks"].bool()))
    yield "output_coord", coord
    for suffix, of_images in (("", model.config["calc_image_bbox_loss"]), ("_all", True)):
        model.config["calc_image_bbox_loss"] = of_images
        losses = model.box_losses(coord, batch)
        yield f"loss_bbox{suffix}", losses["bbox_loss"]
        yield f"loss_giou{suffix}", losses["giou_loss"]
