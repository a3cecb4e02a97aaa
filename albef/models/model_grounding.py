"""ALBEF's weakly supervised grounding: trained as retrieval, evaluated by Grad-CAM maps over a detector's boxes.

Source: docs/official/albef.md §7.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from albef.models import model_retrieval
from vlp.evaluation.grounding import GroundingAccuracy, class_token_map, text_token_maps
from vlp.evaluation.referents import read_referents
from vlp.nn.attention_maps import kept_image_map, kept_map
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout


class ALBEF(model_retrieval.ALBEF):
    """Retrieval's model; ``gradcam_mode`` and ``block_num`` say which layer's maps choose the boxes."""

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config)
        self._accuracy: GroundingAccuracy | None = None

    # Maps ------------------------------------------------------------------------------------------------

    @property
    def grid(self) -> int:
        """Patches in a row of an image."""
        return self.config["image_res"] // self.config["vision_config"]["patch_size"]

    def token_maps(self, images: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What each token contributes to the match logit, patch by patch (mode "itm").

        images (B, 3, S, S), ids and mask (B, n) -> maps (B, n, g, g), match logits (B, 2).
        """
        layout, block = PaddedLayout(mask.bool()), self.config["block_num"]
        layer: Any = self.bert.layers[block]
        cross = layer.crossattention.self
        with torch.no_grad():
            image = self.visual_encoder(images)
            text = self.bert.fuse(self.bert.text(ids, layout), layout, image, Seen(), stop=block)
        with torch.enable_grad(), kept_map(cross):
            fused = self.bert.fuse(text.requires_grad_(), layout, image, Seen(), start=block)
            logits = self.itm_head(fused[:, 0])
            return text_token_maps(cross.attention_map, logits[:, 1].sum(), mask, self.grid), logits.detach()

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
        """(B, g, g), by ``gradcam_mode``; of "itm" the mean over all n positions, padding included."""
        if self.config["gradcam_mode"] == "itc":
            return self.similarity_map(images, ids, mask)
        return self.token_maps(images, ids, mask)[0].mean(dim=1)

    # Evaluation ------------------------------------------------------------------------------------------

    def check_data(self, datamodule: Any) -> None:
        """Read what expressions mean."""
        folder, det_file = Path(self.config["refcoco_data"]), Path(self.config["det_file"])
        self._accuracy = GroundingAccuracy(read_referents(folder, det_file))

    def start_evaluation(self, split: str) -> None:
        assert self._accuracy is not None
        self._accuracy.clear()

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        assert self._accuracy is not None
        with torch.inference_mode(False):
            # Copies, as tensors that were made in inference mode take no part in a graph.
            maps = self.grounding_maps(*(batch[key].clone() for key in ("image", "text_ids", "text_masks")))
        expressions = list(zip(batch["dataset"], batch["index"], strict=True))
        self._accuracy.add(expressions, batch["ref_id"], maps)

    def evaluation_results(self, split: str) -> dict[str, float]:
        """``val_d``, ``testA_d`` and ``testB_d``."""
        assert self._accuracy is not None
        return self._accuracy.results()
