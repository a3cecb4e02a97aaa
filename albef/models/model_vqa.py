"""VQA: an answer decoder trained on the annotators' answers, and asked to rank a list of candidates.

Source: docs/official/albef.md §7.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from albef.models.finetuned_model import FineTunedModel
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM
from vlp.nn.packed_text import TextPlan
from vlp.nn.step_plan import plan_of
from vlp.yaml_dialect.answer_model import AnswerModel, States


class ALBEF(AnswerModel, FineTunedModel):
    """The official model class of VQA."""

    meters: ClassVar = {"loss": "vqa_loss"}

    def __init__(self, config: dict[str, Any], decoder_layers: int | None = None) -> None:
        """``config`` is a resolved config; the decoder has as many layers as the text encoder's fusion half.

        Those are what it starts from, so that its questions are as wide as images: ``encoder_width`` = ``hidden_size``.
        """
        sizes = config["bert_config"]
        decoder = {
            **sizes,
            "num_hidden_layers": decoder_layers or sizes["num_hidden_layers"] - sizes["fusion_layer"],
            "fusion_layer": 0,
        }
        super().__init__(config, text_encoder=FusionEncoder(sizes), text_decoder=FusionMaskedLM(decoder, causal=True))

    def forward(self, batch: dict[str, Any], alpha: float) -> dict[str, Any]:
        """The loss of one training batch; the momentum models move on."""
        plan, soft = plan_of(batch), None
        if self.config["distill"]:
            with torch.no_grad():
                self.follow()
                questions = self.question_states(batch, plan["text"], momentum=True)
                soft = self.answer_logits(self.part("text_decoder", True), batch, plan, questions)
        logits = self.answer_logits(self.text_decoder, batch, plan, self.question_states(batch, plan["text"]))
        loss = self.answer_loss(logits, batch, plan, soft, alpha)
        return {"vqa_loss": loss, "logits": logits, "momentum_logits": soft}

    def question_states(self, batch: dict[str, Any], plan: TextPlan, momentum: bool = False) -> States:
        layout = self.text_layout(plan)
        images = self.part("visual_encoder", momentum)(batch["image"])
        states = self.part("text_encoder", momentum)(batch["text_ids"], layout, images, Seen())
        assert layout.mask is not None
        return layout.pad(states), layout.mask
