"""What X-VLM's models share: the encoders, and the objectives that several of them train with.

Read it beside docs/official/xvlm.md §5: the numbers are those of the official passes, which run as one batch here
(:mod:`vlp.nn.fusion_passes`). A model of a task is this and its ``forward``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vlp.distributed import gathered_features, gathered_rows
from vlp.losses.boxes import box_losses
from vlp.losses.contrastive import contrastive_loss
from vlp.losses.matching import draw, same_image
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.fusion_passes import FusionPass, Negatives, encoder_of, feature, match
from vlp.nn.padding import PaddedLayout, Queries, QuerySubset
from vlp.nn.recompute import recompute_layers
from vlp.nn.region_vit import RegionVit
from vlp.nn.swin_encoder import SwinEncoder
from vlp.training.compile import compile_layers
from vlp.training.param_groups import parameter_groups
from xvlm.models.initial_weights import load_initial_weights
from xvlm.models.xvlm_module import XvlmModule

ImageEncoder = SwinEncoder | RegionVit
NEGATIVE_FLOOR = 1e-5  # added to the weights of hard negatives, so that each can be drawn


class XvlmBase(XvlmModule):
    """A model without its step; attribute names are the official checkpoint keys."""

    # Whether it starts from an image and a text encoder, and not from a checkpoint of both.
    pretraining: ClassVar[bool] = False
    temp: nn.Parameter
    text_encoder: nn.Module
    vision_proj: nn.Linear
    text_proj: nn.Linear
    itm_head: nn.Sequential
    bbox_head: nn.Sequential

    def __init__(self, config: dict[str, Any], **parts: nn.Module | nn.Parameter) -> None:
        """``config`` is a resolved config; ``parts`` follow the image encoder, in the official order."""
        super().__init__(config)
        self.vision_encoder = vision_encoder(config)
        for name, part in parts.items():
            setattr(self, name, part)
        load_initial_weights(self, pretraining=self.pretraining)
        if config["gradient_checkpointing"]:
            recompute_layers(self)
        compile_layers(self, config["compile"])

    @property
    def bert(self) -> FusionEncoder:
        """The text and fusion layers."""
        return encoder_of(self.text_encoder)

    @property
    def init_params(self) -> list[str]:
        """The parameters without pre-trained weights, whose learning rate is multiplied (docs/official/xvlm.md §6)."""
        return []

    def unused_parameters(self) -> list[str]:
        """Every trained parameter gets a gradient in every step."""
        return []

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The official four: with and without decay, then the same of ``init_params`` (docs/official/xvlm.md §6)."""
        settings = self.config["optimizer"]
        multiplied = [(self.init_params, settings["lr_mult"])]
        return parameter_groups(self.named_parameters(), settings["lr"], settings["weight_decay"], multiplied)

    # Features --------------------------------------------------------------------------------------------

    def image_feat(self, image: Tensor) -> Tensor:
        """Encoded images or regions (B, N, c) -> (B, embed_dim), norm 1."""
        return feature(self.vision_proj, image[:, 0])

    def text_feat(self, text: Tensor, layout: PaddedLayout) -> Tensor:
        """States below the fusion layers, stored as the layout says -> (B, embed_dim), norm 1."""
        return feature(self.text_proj, layout.first(text)[:, 0])

    # Objectives ------------------------------------------------------------------------------------------

    def contrast(self, image_feat: Tensor, text_feat: Tensor, image_id: Tensor | None = None) -> dict[str, Any]:
        """Image-text contrast ("itc") over the batches of all ranks.

        Args:
            image_feat, text_feat: (B, embed_dim).
            image_id: (B,) int64; sentences of the same image are all true. None = each has its own.
        """
        with torch.autocast(self.device.type, enabled=False):  # a temperature of 0.07 needs all digits
            both = gathered_features(torch.stack([image_feat, text_feat], dim=1))
            similar = both[:, 0] @ both[:, 1].T / self.temp
            if image_id is None:
                true = torch.eye(len(similar), device=similar.device)
            else:
                true = same_image(gathered_rows(image_id)).float()
            true = true / true.sum(dim=1, keepdim=True)
            return {"itc_loss": contrastive_loss(similar, similar.T, true, true)}

    @torch.no_grad()
    def hard_negatives(self, image_feat: Tensor, text_feat: Tensor, image_id: Tensor | None = None) -> Negatives:
        """Draw them from this rank's batch; the arguments are those of :meth:`contrast`."""
        with torch.autocast(self.device.type, enabled=False):
            own = torch.arange(len(image_feat), device=image_feat.device) if image_id is None else image_id
            matches, similar = same_image(own), image_feat @ text_feat.T / self.temp
            images, texts = (draw(negative_weights(each, matches)) for each in (similar.T, similar))
            return Negatives(images, texts, matches.all(dim=1))

    def match(
        self,
        image: Tensor,
        text: Tensor,
        layout: PaddedLayout,
        negatives: Negatives,
        passes: Sequence[FusionPass] = (),
        of_passes: Sequence[Tensor] = (),
        image_mask: Tensor | None = None,
    ) -> dict[str, Any]:
        """Image-text matching ("itm") and the passes of other objectives: :func:`vlp.nn.fusion_passes.match`."""
        return match(self.bert, self.itm_head, image, text, layout, negatives, passes, of_passes, image_mask)

    def boxes(self, image: Tensor, text: Tensor, layout: PaddedLayout, image_of: Tensor | None = None) -> Tensor:
        """Where sentences say something is: (B, 4) as (cx, cy, w, h), relative to the image, float32.

        Args:
            image: (I, N, c) encoded whole images.
            text: states of B sentences below the fusion layers, stored as the layout says.
            image_of: (B,) int64, the image of each sentence; None = each has its own.
        """
        assert layout.mask is not None
        seen = Seen() if image_of is None else Seen(rounds=0, drawn=image_of)
        first = self.bert.fuse(text, layout, image, seen, QuerySubset(layout, Queries.first(layout.mask)))
        return self.bbox_head(first).float().sigmoid()

    def box_losses(self, coord: Tensor, batch: dict[str, Any]) -> dict[str, Any]:
        """Of predicted boxes (B, 4); phrases about a whole image count only with ``calc_image_bbox_loss``.

        A batch without ``is_image`` has none.
        """
        all_count = "is_image" not in batch or self.config["calc_image_bbox_loss"]
        distance, giou = box_losses(coord, batch["target_bbox"], None if all_count else 1 - batch["is_image"])
        return {"bbox_loss": distance, "giou_loss": giou, "box_coord": coord}


def vision_encoder(config: Mapping[str, Any]) -> ImageEncoder:
    """The image encoder that a resolved config chooses: CLIP's before Swin, without both DeiT."""
    if config["use_clip_vit"]:
        return RegionVit(config["image_res"], config["vision_config"], config["patch_size"], clip=True)
    if config["use_swin"]:
        return SwinEncoder(config["image_res"], config["vision_config"])
    return RegionVit(config["image_res"], config["vision_config"], config["patch_size"])


def text_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """``text_config`` with the width of the images that its fusion layers attend to."""
    return {**config["text_config"], "encoder_width": config["vision_config"]["vision_width"]}


def contrast_parts(config: Mapping[str, Any]) -> dict[str, nn.Module | nn.Parameter]:
    """The temperature and both projections of a contrastive model."""
    widths = {"vision": config["vision_config"]["vision_width"], "text": config["text_config"]["hidden_size"]}
    projections = {f"{name}_proj": nn.Linear(width, config["embed_dim"]) for name, width in widths.items()}
    return {"temp": nn.Parameter(torch.tensor(float(config["temp"]))), **projections}


def negative_weights(similarities: Tensor, matches: Tensor) -> Tensor:
    """By which hard negatives are drawn: similarities (B, B), matches (B, B) bool, never drawn -> (B, B)."""
    return (similarities.softmax(dim=1) + NEGATIVE_FLOOR).masked_fill(matches, 0)
