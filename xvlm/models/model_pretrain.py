"""X-VLM's pre-training: contrast, matching and masked language modelling of images and of regions, and their boxes.

Source: docs/official/xvlm.md §5.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.nn.fusion_bert import FusionMaskedLM
from vlp.nn.fusion_passes import FusionPass, Negatives, encode_together
from vlp.nn.heads import classifier
from vlp.nn.step_plan import plan_of
from xvlm.models.xvlm import ImageEncoder, XvlmBase, contrast_parts, text_sizes

TEMPERATURES = (0.001, 0.5)
_NEW = ("temp", "vision_proj.", "text_proj.", "itm_head.", "bbox_head.")


class Shown(NamedTuple):
    """What a batch's sentences are shown."""

    image: Tensor  # (B, N, c) of each, of a region with its own token 0
    mask: Tensor | None  # (B, N) bool, True = a token that can be seen; None = all are
    whole: Tensor  # (I, N, c), every image once


def shown_by(encoder: ImageEncoder, batch: dict[str, Any]) -> Shown:
    """The images or regions of a batch, encoded; each image once."""
    if "idx_to_group_img" not in batch:
        image = encoder(batch["image"])
        return Shown(image, None, image)
    mask = batch["image_atts"].bool()
    regions, whole = encoder.regions(batch["image"], batch["idx_to_group_img"], mask)
    return Shown(regions, mask, whole)


class XVLM(XvlmBase):
    """The official model class of pre-training."""

    text_encoder: FusionMaskedLM
    pretraining: ClassVar = True
    since_start: ClassVar = True
    region_meters: ClassVar = ("loss_bbox", "loss_giou")
    meters: ClassVar = {
        "loss_itc": "itc_loss",
        "loss_itm": "itm_loss",
        "loss_mlm": "mlm_loss",
        "loss_bbox": "bbox_loss",
        "loss_giou": "giou_loss",
    }

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        width = config["text_config"]["hidden_size"]
        super().__init__(
            config,
            text_encoder=FusionMaskedLM(text_sizes(config)),
            **contrast_parts(config),
            itm_head=classifier(width, 2 * width, 2),
            bbox_head=classifier(width, 2 * width, 4),
        )
        # EPIC >
        self.epic: Any = None  # an XvlmEpic, set by attach_epic
        # < EPIC

    def forward(self, batch: dict[str, Any], negatives: Negatives | None = None) -> dict[str, Any]:
        """The losses of one training batch: three of images and captions, five of regions (``idx_to_group_img``).

        Args:
            negatives: the negatives of matching; by default they are drawn.
        """
        with torch.no_grad():
            self.temp.clamp_(*TEMPERATURES)
        plan = plan_of(batch)
        layout = self.text_layout(plan["text"])
        shown = shown_by(self.vision_encoder, batch)
        passes = [self.mlm_pass(batch, plan)]
        # EPIC >
        if self.epic is not None:
            passes += self.epic.passes(self, batch, layout, shown)
        # < EPIC
        text, *of_passes = encode_together(self.bert, [batch["text_ids"], *(each.ids for each in passes)], layout)

        features = self.image_feat(shown.image), self.text_feat(text, layout)
        outputs = self.contrast(*features)
        if negatives is None:
            negatives = self.hard_negatives(*features)
        outputs |= self.match(shown.image, text, layout, negatives, passes, of_passes, shown.mask)
        # EPIC >
        if self.epic is not None:
            outputs |= self.epic.left_out(batch)
        # < EPIC
        if "idx_to_group_img" in batch:
            coord = self.boxes(shown.whole, text, layout, batch["idx_to_group_img"])
            return outputs | self.box_losses(coord, batch)
        return outputs | self.no_boxes()

    def mlm_pass(self, batch: dict[str, Any], plan: dict[str, Any]) -> FusionPass:
        """Masked sentences, asked for what is masked."""
        read = plan["mlm"]
        labels = batch["text_labels_mlm"][read.row, read.place]

        def finish(states: Tensor) -> dict[str, Any]:
            logits = self.text_encoder.logits(states)
            return {"mlm_loss": mean_cross_entropy(logits, labels), "mlm_logits": logits, "mlm_labels": labels}

        return FusionPass(batch["text_ids_mlm"], read, finish)

    def no_boxes(self) -> dict[str, Any]:
        """A batch of images alone: the box head gets a gradient of zeros, and moves on by momentum and decay.

        So it does officially, where gradients are set to zeros and not taken away (docs/official/xvlm.md §6).
        """
        if not self.reads_regions:
            return {}
        return {"unused_loss": 0.0 * torch.stack([p.sum() for p in self.bbox_head.parameters()]).sum()}

    # Optimisation ----------------------------------------------------------------------------------------

    # EPIC >
    def parameter_groups(self) -> list[dict[str, Any]]:
        groups = super().parameter_groups()
        if self.epic is not None:
            settings = self.config["optimizer"]
            groups = self.epic.own_groups(groups, settings["lr"], head_factor=settings["lr_mult"])
        return groups

    # < EPIC
    @property
    def reads_regions(self) -> bool:
        """Whether training has batches of regions."""
        return bool(self.config["train_file_regions"]) and self.config["regions"]["iter_perc"] > 0

    @property
    def init_params(self) -> list[str]:
        """Cross-attention, projections, temperature and heads."""
        names = [name for name, _ in self.named_parameters()]
        return [name for name in names if ".crossattention." in name or name.startswith(_NEW)]

    def unused_parameters(self) -> list[str]:
        """The box head's, without regions."""
        names = [name for name, _ in self.named_parameters() if name.startswith("bbox_head.")]
        return [] if self.reads_regions else names
