"""NLVR2's first stage: to which of two images does a text belong, if to any (docs/official/xvlm.md §7.3)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.losses.text_assignment import TEMPERATURE, Assignment, check_batch, draw_assignment
from vlp.nn.paired_encoder import paired_encoder
from vlp.nn.step_plan import plan_of
from vlp.training.ddp import names_below
from xvlm.models.xvlm import XvlmBase, text_sizes


class XVLM(XvlmBase):
    """The official model class of NLVR2's text assignment; it starts from a checkpoint of pre-training."""

    since_start: ClassVar = True
    ta_head: nn.Linear
    meters: ClassVar = {"loss": "ta_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(
            config,
            text_encoder=paired_encoder(text_sizes(config)),
            vision_proj=nn.Linear(config["vision_config"]["vision_width"], config["embed_dim"]),
            ta_head=nn.Linear(config["text_config"]["hidden_size"], 3),
        )

    @property
    def init_params(self) -> list[str]:
        """The head."""
        return names_below(self, ("ta_head.",))

    def unused_parameters(self) -> list[str]:
        """The projection draws images, without a gradient."""
        return names_below(self, ("vision_proj.",))

    def forward(self, batch: dict[str, Any], assignment: Assignment | None = None) -> dict[str, Any]:
        """The loss of one training batch.

        Args:
            assignment: the images of each text; by default they are drawn.

        Raises:
            ValueError: a batch of fewer than three images.
        """
        images = self.vision_encoder(batch["image"])
        check_batch(len(images))
        shown = draw_assignment(self.similarities(images)) if assignment is None else assignment
        layout = self.text_layout(plan_of(batch)["text"])
        pair = [images[shown.first], images[shown.second]]
        logits = self.ta_head(self.bert.first_states(batch["text_ids"], layout, pair))
        return {"ta_loss": mean_cross_entropy(logits, shown.labels), "logits": logits}

    @torch.no_grad()
    def similarities(self, images: Tensor) -> Tensor:
        """Of each image (B, N, c) with each, divided by the temperature: (B, B)."""
        with torch.autocast(images.device.type, enabled=False):
            feats = self.image_feat(images.float())
            return feats @ feats.T / TEMPERATURE
