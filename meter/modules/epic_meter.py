"""EPIC in METER: the teacher's q and K of Eq. 8, and one EPIC step on the student's verbs.

Any command of run.py trains with EPIC once it names the config ``epic`` and the frozen teacher, a METER pre-trained
without EPIC:
    python run.py with … epic teacher_path=meter_clip16_288_roberta_pretrain.ckpt

Source: docs/official/meter.md §10.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from epic_vlp.lightning_epic import LightningEpic
from epic_vlp.sacred_dialect import SacredExtension
from meter.modules.meter_module import METERTransformerSS
from vlp.nn.padding import Queries
from vlp.sacred_dialect.joint_pass import Pass


class MeterTeacher(METERTransformerSS):
    """A METER that answers what EPIC asks of a frozen model."""

    def query_key(self, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """q (B, h, d_h) of the image, K (B, h, n, d_h) of the text in fusion layer ``layer``'s image stream (Eq. 8).

        Unmasked text with the true image. q is that of image token 0 ([CLS]); Swin has none: there it is that of the
        mean token, which is the mean of the queries, since their projection is affine. Nothing after that layer's
        cross-attention scores is computed, and nothing at padding, where K is 0.
        """
        n, batch = batch["text_ids"].shape[1], self.prepared(batch)
        layout, image_layout = self.text_layout(batch["plan"]["text"]), self.image_layout
        x = self.encode_text(batch["text_ids"], layout)
        y = self.encode_image(batch["image"][0])
        layers = list(zip(self.cross_modal_text_layers, self.cross_modal_image_layers, strict=True))
        last = range(len(layers))[layer]
        for text_layer, image_layer in layers[:last]:
            x, y = text_layer(x, y, layout, image_layout), image_layer(y, x, image_layout, layout)
        fusion: Any = layers[last][1]
        asking = y[:, :1] if self.image_pool == "first" else y
        states = fusion.attention(asking, y, image_layout, image_layout).mean(dim=1, keepdim=True)
        cross = fusion.crossattention.self
        key = F.pad(layout.pad(cross.key(x)), (0, 0, 0, n - batch["text_ids"].shape[1]))
        return cross.split_heads(cross.query(states)).squeeze(2), cross.split_heads(key)

    def mlm_logits_at(self, batch: dict[str, Any], input_ids: Tensor, places: Tensor) -> Tensor:
        """input_ids (B, n), places (K,) in (B·n) -> MLM logits (K, vocab) with the true image, for "VLM (SAS)"."""
        batch, read = self.prepared(batch), Queries.at(places, input_ids.shape[1])
        alone = Pass(input_ids, self.encode_image(batch["image"][0]), lambda fused: {}, read)
        (fused,) = self.fuse_together([alone], batch["plan"]["text"])
        return self.mlm_score(fused.text)


class MeterEpic(LightningEpic):
    """EPIC's objective as one pass of METER's step."""

    def to_pass(self, model: METERTransformerSS, batch: dict[str, Any], image: Tensor) -> Pass:
        """The corrupted sentence with the true image, whose states (B, P, d) METER's own objectives share."""
        self.refresh(model)
        layout = model.text_layout(batch["plan"]["text"])
        image_cls = image[:, 0] if model.image_pool == "first" else image.mean(dim=1)
        corruption = self.corruption_of(batch["text_ids"], batch["text_masks"], batch, image_cls, layout)
        return Pass(corruption.input_ids, image, lambda fused: self.losses(layout.pad(fused.text), corruption))


EPIC = SacredExtension(
    epic=MeterEpic,
    teacher=MeterTeacher,
    fusion_layers=lambda config: config["num_top_layer"],
    image_encoder=True,
    text_ends_with_sep=True,
    # square: an image is the same tensor whatever stands beside it
    fixed_views=("clip", "imagenet", "vit"),
)
