"""The EPIC model's verdict on every token of a caption, with the attention that Grad-CAM needs.

Source: docs/method.md §6, Fig. 5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray
from torch import Tensor

from epic_common.analysis.gradcam import itc_grad_cam
from vlp.nn.attention_maps import kept_map
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import PaddedLayout


class Judgement(NamedTuple):
    """ITC logits (1, n), and of fusion layer -2 the map (1, h, n, keys) that they depend on.

    The last rows·columns keys are the image's patches in raster order.
    """

    logits: Tensor
    attention: Tensor
    grid: tuple[int, int]

    def heat(self, token: int) -> NDArray[Any]:
        """Grad-CAM of the token's verdict over the patches, (rows, columns)."""
        rows, columns = self.grid
        cam = itc_grad_cam(self.attention, self.logits, token)
        return cam[-rows * columns :].view(rows, columns).numpy()


def in_words(consistent: float) -> str:
    """D (Eq. 1), the probability that a word is consistent with the image, as a verdict with its own probability."""
    if consistent >= 0.5:
        return f"D: consistent with p = {consistent:.2f}"
    return f"D: inconsistent with p = {1 - consistent:.2f}"


def meter_judgement(model: Any, batch: dict[str, Any], ids: Tensor) -> Judgement:
    """``ids`` (1, n) with the batch's image: the cross-attention of METER's text stream."""
    attention = model.cross_modal_text_layers[-2].crossattention.self
    attention.keep_map = True
    fused = model.infer({**batch, "text_ids": ids})
    attention.keep_map = False
    side = round((fused["image_feats"].shape[1] - 1) ** 0.5)  # the class token stands before the patches
    return Judgement(model.epic.head(fused["text_feats"]), attention.attention_map, (side, side))


def vilt_judgement(model: Any, batch: dict[str, Any], ids: Tensor) -> Judgement:
    """``ids`` (1, n) with the batch's image: the joint attention of ViLT, text, class token and patches."""
    attention = model.transformer.blocks[-2].attn
    attention.keep_map = True
    fused = model.infer({**batch, "text_ids": ids})
    attention.keep_map = False
    _, grid = fused["patch_index"]
    return Judgement(model.epic.head(fused["text_feats"]), attention.attention_map, grid)


def albef_judgement(model: Any, batch: dict[str, Any], ids: Tensor) -> Judgement:
    """``ids`` (1, n) with the batch's image: the cross-attention of ALBEF's fusion layers."""
    patch = model.config["vision_config"]["patch_size"]
    return _fusion_judgement(model, batch, ids, model.visual_encoder(batch["image"]), patch)


def xvlm_judgement(model: Any, batch: dict[str, Any], ids: Tensor) -> Judgement:
    """``ids`` (1, n) with the batch's image: the cross-attention of X-VLM's fusion layers."""
    return _fusion_judgement(model, batch, ids, model.vision_encoder(batch["image"]), model.config["patch_size"])


def _fusion_judgement(model: Any, batch: dict[str, Any], ids: Tensor, image: Tensor, patch: int) -> Judgement:
    attention = model.bert.layers[-2].crossattention.self
    with kept_map(attention):
        states = model.bert(ids, PaddedLayout(batch["text_masks"].bool()), image, Seen())
        attention_map = attention.attention_map
    side = model.config["image_res"] // patch
    return Judgement(model.epic.head(states), attention_map, (side, side))
