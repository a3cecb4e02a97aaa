"""EPIC in ViLT: the teacher's q and K of Eq. 8, and one EPIC step on the student's verbs.

Any command of run.py trains with EPIC once it names the config ``epic`` and the frozen teacher, a ViLT pre-trained
without EPIC:
    python run.py with … epic teacher_path=vilt_200k_mlm_itm.ckpt

Source: docs/official/vilt.md §10.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from epic_vlp.extension import EpicExtension
from epic_vlp.lightning_epic import LightningEpic
from vilt.modules.batches import image_of
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.vision_transformer import ImageTokens, VisionTransformer
from vlp.nn.padding import QuerySubset, UnpaddedLayout


class ViltTeacher(ViLTransformerSS):
    """A ViLT that answers what EPIC asks of a frozen model.

    It sees all patches of an image, also where the student draws ``max_image_len`` of them: its scores are fixed.
    """

    def __init__(self, config: dict[str, Any], transformer: VisionTransformer | None = None) -> None:
        super().__init__({**config, "max_image_len": -1}, transformer)

    def query_key(self, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """q (B, h, d_h) of the image class token and K (B, h, n, d_h) of the text in block ``layer`` (Eq. 8).

        Unmasked text with the true image. Of that block only its first norm and these projections are computed, of the
        one before it only what they read: text and class token. Nothing is computed at padding, where K is 0.
        """
        text, mask = self.encode_text(batch["text_ids"]), batch["text_masks"].bool()
        image = self.encode_image(*image_of(batch, "image"))
        x, joint_mask = self.joint_input(text, mask, self.transformer.pos_drop(image.states), image.mask)
        layout, size = UnpaddedLayout(joint_mask), mask.shape[1]
        read = QuerySubset(layout, (torch.arange(joint_mask.shape[1], device=x.device) <= size).expand_as(joint_mask))
        last = range(len(self.transformer.blocks))[layer]
        x = self.transformer.run_blocks(layout.unpad(x), layout, read, stop=last)

        block: Any = self.transformer.blocks[last]
        states, text_layout = read.pad_into(block.norm1(x), layout), UnpaddedLayout(mask)
        query = block.attn.query(states[:, size])
        key = text_layout.pad(block.attn.key(text_layout.unpad(states[:, :size])).flatten(1))
        return query, key.unflatten(-1, query.shape[1:]).transpose(1, 2)

    def mlm_logits_at(self, batch: dict[str, Any], input_ids: Tensor, masked: Tensor) -> Tensor:
        """input_ids (B, n), masked (B, n) bool -> MLM logits (K, vocab) with the true image, for "VLM (SAS)"."""
        image = self.encode_image(*image_of(batch, "image"))
        fused = self.fuse(self.encode_text(input_ids), batch["text_masks"], image, read=masked)
        return self.mlm_score(fused.text[masked])


class ViltEpic(LightningEpic):
    """EPIC's objective as one entry of ViLT's step."""

    def step(self, model: ViLTransformerSS, batch: dict[str, Any], image: ImageTokens) -> dict[str, Tensor]:
        """``image``: the true image's tokens, which ViLT's own objectives share."""
        self.refresh(model)
        mask = batch["text_masks"]
        corruption = self.corruption_of(batch["text_ids"], mask, batch)
        fused = model.fuse(model.encode_text(corruption.input_ids), mask, image, read=corruption.valid)
        return self.losses(fused.text, corruption)


EPIC = EpicExtension(
    epic=ViltEpic,
    teacher=ViltTeacher,
    fusion_layers="num_layers",
    image_encoder=False,
    text_ends_with_sep=True,
    fixed_views=("pixelbert",),
)
