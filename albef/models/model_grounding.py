"""ALBEF's weakly supervised grounding: trained as retrieval, evaluated by Grad-CAM maps over a detector's boxes.

Source: docs/official/albef.md §7.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from albef.models import model_retrieval
from vlp.evaluation.grounding import class_token_map
from vlp.nn.attention_maps import kept_image_map
from vlp.nn.padding import PaddedLayout
from vlp.yaml_dialect.referent_model import MappedModel


class ALBEF(MappedModel, model_retrieval.ALBEF):
    """Retrieval's model; ``gradcam_mode`` and ``block_num`` say which layer's maps choose the boxes."""

    @property
    def grid(self) -> int:
        return self.config["image_res"] // self.config["vision_config"]["patch_size"]

    def similarity_map(self, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """What each patch contributes to the similarity of features (mode "itc"), (B, g, g)."""
        layout = PaddedLayout(mask.bool())
        with torch.no_grad():
            text_feat = self.text_feat(self.bert.text(ids, layout), layout)
        block: Any = self.visual_encoder.blocks[self.config["block_num"]]
        with torch.enable_grad(), kept_image_map(block) as maps:
            # Inputs with a gradient make a graph also where all weights are frozen.
            image_feat = self.image_feat(self.visual_encoder(images.detach().requires_grad_()))
            similarity = (image_feat * text_feat).sum() / self.temp
            return class_token_map(maps[0], similarity, self.grid)

    def grounding_maps(self, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, g, g), by ``gradcam_mode``."""
        if self.config["gradcam_mode"] == "itc":
            return self.similarity_map(images, ids, mask)
        return super().grounding_maps(images, ids, mask)
