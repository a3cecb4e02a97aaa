"""Captioning's domain stage: the whole text model becomes a decoder that predicts the next token of a caption.

Source: docs/official/xvlm.md §7.5.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from vlp.losses.cross_entropy import smoothed_cross_entropy
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionMaskedLM
from xvlm.models.xvlm import XvlmBase, text_sizes


class XVLM(XvlmBase):
    """The official model class of the stage."""

    text_decoder: FusionMaskedLM
    meters: ClassVar = {"loss": "lm_loss"}
    since_start: ClassVar = True
    label_smoothing = 0.0

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config, text_decoder=FusionMaskedLM(text_sizes(config), causal=True))

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The loss of one training batch, which has a ``caption_plan``: the mean over the tokens that are predicted."""
        plan = batch["plan"]
        logits, reads = self.next_token_logits(batch, plan), plan["next"]
        targets = batch["text_ids"][reads.row, reads.place + 1]
        return {"lm_loss": smoothed_cross_entropy(logits, targets, self.label_smoothing), "logits": logits}

    def next_token_logits(self, batch: dict[str, Any], plan: dict[str, Any]) -> Tensor:
        """Of each token that predicts a next one, (K, V)."""
        layout, images = self.text_layout(plan["text"]), self.vision_encoder(batch["image"])
        states = self.text_decoder.bert(batch["text_ids"], layout, images, Seen())
        return self.text_decoder.logits(layout.at(plan["next"], states))
