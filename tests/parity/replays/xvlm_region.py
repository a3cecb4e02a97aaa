"""X-VLM's region pre-training step: region states, Eq. 8, logits, boxes, five losses in both settings of the boxes.

Source: docs/official/xvlm.md §4.2, §5.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Given, Outputs, once, piece, replay
from tests.parity.replays.fusion_passes import Shown
from tests.parity.replays.xvlm_models import model_of, pretraining_batch
from tests.parity.replays.xvlm_pretrain import plain, trained
from vlp.nn.padding import PaddedLayout
from xvlm.models.model_pretrain import XVLM, shown_by


@replay("xvlm", "region", modes=(PLAIN, TRAINING_PATH))
@torch.no_grad()
def region(fixture: Fixture, mode: str) -> Outputs:
    model, batch = model_of(fixture, mode), pretraining_batch(fixture, regions=True)
    batch["idx_to_group_img"]  # without it, the model takes the regions for images
    if mode == TRAINING_PATH:
        yield from trained(fixture, model, batch)
        model.config["calc_image_bbox_loss"] = True
        outputs = model(batch.whole())
        yield "output_coord", outputs["box_coord"]
        yield "loss_bbox_all", outputs["bbox_loss"]
        yield "loss_giou_all", outputs["giou_loss"]
    else:
        yield from _plain(fixture, model, batch)


def _plain(fixture: Fixture, model: XVLM, batch: Given) -> Outputs:
    shown = once(lambda: shown_by(model.vision_encoder, batch))
    whole = once(lambda: shown().whole[batch["idx_to_group_img"]])
    yield "region_pooled", lambda: shown().image
    yield "region_embeds", lambda: shown().image
    yield "full_pooled", whole
    yield from plain(fixture, model, batch, once(lambda: Shown(shown().image, shown().mask)))
    coord = once(lambda: _coord(model, batch, whole()))
    yield "output_coord", coord
    for suffix, of_images in (("", model.config["calc_image_bbox_loss"]), ("_all", True)):
        yield from _losses(model, batch, coord, suffix, of_images)


def _coord(model: XVLM, batch: Given, whole: Tensor) -> Tensor:
    layout = PaddedLayout(batch["text_masks"].bool())
    return model.boxes(whole, model.bert.text(batch["text_ids"], layout), layout)


@piece
def _losses(model: XVLM, batch: Given, coord: Callable[[], Tensor], suffix: str, of_images: bool) -> Outputs:
    model.config["calc_image_bbox_loss"] = of_images
    counted = batch if of_images else batch.also(is_image=batch["is_image"])  # the model does without it, too
    losses = model.box_losses(coord(), counted)
    yield f"loss_bbox{suffix}", losses["bbox_loss"]
    yield f"loss_giou{suffix}", losses["giou_loss"]
