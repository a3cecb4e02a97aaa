"""VQA: an answer decoder trained on the annotators' answers, and asked to rank a list of candidates.

Source: docs/official/xvlm.md §7.2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM
from vlp.nn.packed_text import TextPlan
from vlp.nn.step_plan import plan_of
from vlp.yaml_dialect.answer_model import AnswerModel, States
from xvlm.models.xvlm import XvlmBase, text_sizes

# The decoder's keys and values of the question: no checkpoint of pre-training has them, an image is wider.
_NEW = (".crossattention.self.key.", ".crossattention.self.value.")


class XVLM(AnswerModel, XvlmBase):
    """The official model class of VQA."""

    meters: ClassVar = {"loss": "vqa_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        sizes = text_sizes(config)
        decoder = {
            **sizes,
            "num_hidden_layers": config["num_dec_layers"],
            "fusion_layer": 0,
            "encoder_width": sizes["hidden_size"],
        }
        super().__init__(config, text_encoder=FusionEncoder(sizes), text_decoder=FusionMaskedLM(decoder, causal=True))

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The loss of one training batch."""
        plan = plan_of(batch)
        questions = self.question_states(batch, plan["text"])
        logits = self.answer_logits(self.text_decoder, batch, plan, questions)
        return {"vqa_loss": self.answer_loss(logits, batch, plan), "logits": logits}

    def question_states(self, batch: dict[str, Any], plan: TextPlan) -> States:
        layout = self.text_layout(plan)
        states = self.bert(batch["text_ids"], layout, self.vision_encoder(batch["image"]), Seen())
        assert layout.mask is not None
        return layout.pad(states), layout.mask

    def answer_file(self) -> Path:
        """As everywhere, of ``--evaluate`` ``result/vqa_eval.json``."""
        path = super().answer_file()
        return path.with_name("vqa_eval.json") if self.config["evaluate"] else path

    @property
    def init_params(self) -> list[str]:
        """The decoder's keys and values of the question."""
        names = [name for name, _ in self.text_decoder.named_parameters(prefix="text_decoder")]
        return [name for name in names if any(part in name for part in _NEW)]
