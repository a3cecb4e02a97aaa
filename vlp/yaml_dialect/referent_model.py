"""What the grounding models of ALBEF and X-VLM share: the accuracy of boxes, and Grad-CAM maps that choose them.

Source: docs/official/albef.md §7, docs/official/xvlm.md §7.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlp.evaluation.grounding import Expression, GroundingAccuracy, Referent, text_token_maps
from vlp.evaluation.referents import read_referents
from vlp.nn.attention_maps import kept_map
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.padding import PaddedLayout
from vlp.yaml_dialect.epoch_module import EpochModule
from vlp.yaml_dialect.reranked_model import RerankedModel


class ReferentModel(EpochModule):
    """A subclass answers expressions with boxes, which it gives to :attr:`accuracy`."""

    _accuracy: GroundingAccuracy | None = None

    def referents(self) -> Mapping[int, Referent]:
        """What the expressions of all evaluation splits mean.

        Raises:
            DataError: a file is missing or of another format.
        """
        return read_referents(Path(self.config["refcoco_data"]), Path(self.config["det_file"]))

    @property
    def accuracy(self) -> GroundingAccuracy:
        """Of the split that is scored."""
        assert self._accuracy is not None
        return self._accuracy

    def check_data(self, datamodule: Any) -> None:
        """Read what expressions mean."""
        self._accuracy = GroundingAccuracy(self.referents())

    def start_evaluation(self, split: str) -> None:
        self.accuracy.clear()

    @staticmethod
    def expressions(batch: dict[str, Any]) -> list[Expression]:
        """The names of a batch's expressions."""
        return list(zip(batch["dataset"], batch["index"], strict=True))

    def evaluation_results(self, split: str) -> dict[str, float]:
        """``val_d``, ``testA_d`` and ``testB_d``."""
        return self.accuracy.results()


class MappedModel(ReferentModel, RerankedModel):
    """A retrieval model that grounds: the match logit's gradient in layer ``block_num`` says where a text's object is.

    A subclass names the retrieval model after this one.
    """

    bert: FusionEncoder
    itm_head: Any

    @property
    def grid(self) -> int:
        """Patches in a row of an image."""
        raise NotImplementedError

    def token_maps(self, images: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What each token contributes to the match logit, patch by patch (mode "itm").

        images (B, 3, S, S), ids and mask (B, n) -> maps (B, n, g, g), match logits (B, 2).
        """
        layout, block = PaddedLayout(mask.bool()), self.config["block_num"]
        layer: Any = self.bert.layers[block]
        cross = layer.crossattention.self
        with torch.no_grad():
            image = self.image_states(images)[0]
            text = self.bert.fuse(self.bert.text(ids, layout), layout, image, Seen(), stop=block)
        with torch.enable_grad(), kept_map(cross):
            fused = self.bert.fuse(text.requires_grad_(), layout, image, Seen(), start=block)
            logits = self.itm_head(fused[:, 0])
            return text_token_maps(cross.attention_map, logits[:, 1].sum(), mask, self.grid), logits.detach()

    def grounding_maps(self, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, g, g), the mean over all n positions, padding included."""
        return self.token_maps(images, ids, mask)[0].mean(dim=1)

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        with torch.inference_mode(False):
            # Copies, as tensors that were made in inference mode take no part in a graph.
            maps = self.grounding_maps(*(batch[key].clone() for key in ("image", "text_ids", "text_masks")))
        self.accuracy.add(self.expressions(batch), batch["ref_id"], maps)
