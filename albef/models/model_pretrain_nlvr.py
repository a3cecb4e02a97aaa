"""NLVR2's first stage: to which of two images does a text belong, if to any (docs/official/albef.md §5)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from albef.models.albef_module import AlbefModule
from albef.models.initial_weights import load_initial_weights
from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.losses.text_assignment import TEMPERATURE, Assignment, check_batch, draw_assignment
from vlp.nn.paired_encoder import paired_encoder
from vlp.nn.recompute import recompute_layers
from vlp.nn.step_plan import plan_of
from vlp.nn.vision import VisionEncoder
from vlp.training.compile import compile_layers
from vlp.training.ddp import names_below


class ALBEF(AlbefModule):
    """The official model class of NLVR2's text assignment."""

    meters: ClassVar = {"loss": "ta_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config)
        width = config["bert_config"]["hidden_size"]
        self.temp = nn.Parameter(torch.tensor(TEMPERATURE))
        self.visual_encoder = VisionEncoder(config["image_res"], config["vision_config"])
        self.text_encoder = paired_encoder(config["bert_config"])
        self.vision_proj = nn.Linear(config["vision_config"]["width"], config["embed_dim"])
        self.text_proj = nn.Linear(width, config["embed_dim"])
        self.ta_head = nn.Linear(width, 3)
        load_initial_weights(self)
        if config["gradient_checkpointing"]:
            recompute_layers(self)
        compile_layers(self, config["compile"])

    def unused_parameters(self) -> list[str]:
        """The projections draw images, without a gradient, and no objective reads the text's."""
        return ["temp", *names_below(self, ("vision_proj.", "text_proj."))]

    def forward(self, batch: dict[str, Any], alpha: float, assignment: Assignment | None = None) -> dict[str, Any]:
        """The loss of one training batch.

        Args:
            alpha: nothing here has soft targets.
            assignment: the images of each text; by default they are drawn.

        Raises:
            ValueError: a batch of fewer than three images, where no text can be shown two that are not its own.
        """
        images = self.visual_encoder(batch["image"])
        check_batch(len(images))
        shown = draw_assignment(self.similarities(images)) if assignment is None else assignment
        layout = self.text_layout(plan_of(batch)["text"])
        pair = [images[shown.first], images[shown.second]]
        logits = self.ta_head(self.text_encoder.first_states(batch["text_ids"], layout, pair))
        return {"ta_loss": mean_cross_entropy(logits, shown.labels), "logits": logits}

    @torch.no_grad()
    def similarities(self, images: Tensor) -> Tensor:
        """Of each image (B, N, d) with each, divided by the temperature: (B, B)."""
        with torch.autocast(images.device.type, enabled=False):
            feats = F.normalize(self.vision_proj(images[:, 0].float()), dim=-1)
            return feats @ feats.T / self.temp
