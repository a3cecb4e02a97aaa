"""EPIC in METER: the teacher's q and K of Eq. 8, and one EPIC step on the student's verbs.

Any command of run.py trains with EPIC once it names the config ``epic`` and the frozen teacher, a METER pre-trained
without EPIC:
    python run.py with … epic teacher_path=meter_clip16_288_roberta_pretrain.ckpt

Source: docs/official/meter.md §10.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from epic_vlp.extension import EpicExtension
from epic_vlp.lightning_epic import LightningEpic
from meter.modules.meter_module import METERTransformerSS
from vlp.nn.padding import PaddedLayout, UnpaddedLayout


class MeterTeacher(METERTransformerSS):
    """A METER that answers what EPIC asks of a frozen model."""

    def query_key(self, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """q (B, h, d_h) of the image, K (B, h, n, d_h) of the text in fusion layer ``layer``'s image stream (Eq. 8).

        Unmasked text with the true image. q is that of image token 0 ([CLS]); Swin has none: there it is that of the
        mean token, which is the mean of the queries, since their projection is affine. Nothing after that layer's
        cross-attention scores is computed, and nothing at padding, where K is 0.
        """
        mask = batch["text_masks"].bool()
        layout, image_layout = UnpaddedLayout(mask), PaddedLayout(reorder=True)
        x = layout.unpad(self.encode_text(batch["text_ids"], mask))
        y = self.encode_image(batch["image"][0])
        layers = list(zip(self.cross_modal_text_layers, self.cross_modal_image_layers, strict=True))
        last = range(len(layers))[layer]
        for text_layer, image_layer in layers[:last]:
            x, y = text_layer(x, y, layout, image_layout), image_layer(y, x, image_layout, layout)
        fusion: Any = layers[last][1]
        asking = y[:, :1] if self.image_pool == "first" else y
        states = fusion.attention(asking, y, image_layout, image_layout).mean(dim=1, keepdim=True)
        cross = fusion.crossattention.self
        return cross.split_heads(cross.query(states)).squeeze(2), cross.split_heads(layout.pad(cross.key(x)))

    def mlm_logits_at(self, batch: dict[str, Any], input_ids: Tensor, masked: Tensor) -> Tensor:
        """input_ids (B, n), masked (B, n) bool -> MLM logits (K, vocab) with the true image, for "VLM (SAS)"."""
        mask = batch["text_masks"]
        image = self.encode_image(batch["image"][0])
        fused = self.fuse(self.encode_text(input_ids, mask), mask, image, image_stream=False)
        return self.mlm_score(fused.text[masked])


class MeterEpic(LightningEpic):
    """EPIC's objective as one entry of METER's step."""

    def step(self, model: METERTransformerSS, batch: dict[str, Any], image: Tensor) -> dict[str, Tensor]:
        """``image`` (B, P, d): the true image's states, which METER's own objectives share."""
        self.refresh(model)
        mask = batch["text_masks"]
        image_cls = image[:, 0] if model.image_pool == "first" else image.mean(dim=1)
        corruption = self.corruption_of(batch["text_ids"], mask, batch, image_cls)
        text = model.encode_text(corruption.input_ids, mask)
        fused = model.fuse(text, mask, image, image_stream=False)
        return self.losses(fused.text, corruption)


EPIC = EpicExtension(
    epic=MeterEpic,
    teacher=MeterTeacher,
    fusion_layers="num_top_layer",
    image_encoder=True,
    text_ends_with_sep=True,
    # square: an image is the same tensor whatever stands beside it
    fixed_views=("clip", "imagenet", "vit"),
)
