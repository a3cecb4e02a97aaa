"""VQA: an answer decoder trained on the annotators' answers, and asked to rank a list of candidates.

Source: docs/official/albef.md §7.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from albef.models.finetuned_model import FineTunedModel
from vlp.data.json.text import encode_cls
from vlp.distributed import gathered
from vlp.evaluation.answer_ranking import Ranking, rank_answers
from vlp.evaluation.vqa import Predictions, answer_accuracy, write_submission
from vlp.losses.distillation import distilled_losses
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import PaddedLayout, Queries
from vlp.nn.step_plan import plan_of


class ALBEF(FineTunedModel):
    """The official model class of VQA."""

    text_decoder: FusionMaskedLM
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
        self.candidates: list[str] = []
        self.candidate_ids = self.candidate_masks = torch.empty(0, 0, dtype=torch.long)
        self.predictions = Predictions()
        self.accuracies: dict[int, float] = {}

    def forward(self, batch: dict[str, Any], alpha: float) -> dict[str, Any]:
        """The loss of one training batch; the momentum models move on."""
        plan = plan_of(batch)
        reads: Queries = plan["answer_reads"]
        soft = None
        if self.config["distill"]:
            with torch.no_grad():
                self.follow()
                soft = self.answer_logits(batch, plan, momentum=True)
        logits = self.answer_logits(batch, plan)
        losses = distilled_losses(logits, batch["answer_ids"][reads.row, reads.place + 1], soft, alpha)
        weighted = losses * batch["answer_weights"][reads.row]
        return {"vqa_loss": weighted.sum() / len(batch["text_ids"]), "logits": logits, "momentum_logits": soft}

    def answer_logits(self, batch: dict[str, Any], plan: dict[str, Any], momentum: bool = False) -> Tensor:
        """Of each token that predicts a next one, (K, V): answers beside each other share their question's states."""
        layout = self.text_layout(plan["answers"])
        states, mask = self.question_states(batch, plan["text"], momentum)
        decoder: FusionMaskedLM = self.part("text_decoder", momentum)
        seen = Seen(rounds=0, drawn=plan["answer_questions"], mask=mask)
        decoded = decoder.bert(batch["answer_ids"], layout, states, seen)
        return decoder.logits(layout.at(plan["answer_reads"], decoded))

    def question_states(self, batch: dict[str, Any], plan: TextPlan, momentum: bool = False) -> tuple[Tensor, Tensor]:
        """States of the questions with their images, (B, n, d), and which are tokens, (B, n) bool."""
        layout = self.text_layout(plan)
        images = self.part("visual_encoder", momentum)(batch["image"])
        states = self.part("text_encoder", momentum)(batch["text_ids"], layout, images, Seen())
        assert layout.mask is not None
        return layout.pad(states), layout.mask

    # Evaluation ------------------------------------------------------------------------------------------

    def check_data(self, datamodule: Any) -> None:
        """Refuse a ``k_test`` that the answer list does not have."""
        for split in datamodule.eval_splits:
            count, k = len(datamodule.sets[split].answer_list), self.config["k_test"]
            if count < k:
                raise ValueError(f"k_test={k}: answer_list={self.config['answer_list']} has {count} answers")

    def start_evaluation(self, split: str) -> None:
        """Read the candidates of the split's answer list."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.predictions, self.accuracies = Predictions(), {}
        self.candidates = data.sets[split].answer_list
        closed = [answer + self.config["eos"] for answer in self.candidates]
        encoded = encode_cls(
            data.tokenizer, closed, self.config["bert_config"]["max_position_embeddings"], spelled=True
        )
        self.candidate_ids, self.candidate_masks = (tensor.to(self.device) for tensor in encoded)

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        best = self.rank(batch, self.candidate_ids, self.candidate_masks).ids[:, 0].tolist()
        self.predictions.take(batch["question_id"], best)
        for question, answer, annotated in zip(batch["question_id"], best, batch.get("answers") or (), strict=False):
            if annotated:
                self.accuracies[int(question)] = answer_accuracy(self.candidates[answer], annotated)

    def rank(self, batch: dict[str, Any], candidate_ids: Tensor, candidate_masks: Tensor) -> Ranking:
        """The ``k_test`` likeliest of candidates (C, m) for each question, best first; questions are encoded once."""
        states, mask = self.question_states(batch, plan_of(batch)["text"])

        def logits_of(ids: Tensor, masks: Tensor, questions: Tensor) -> Tensor:
            layout = PaddedLayout(masks.bool())
            decoded = self.text_decoder.bert(ids, layout, states, Seen(rounds=0, drawn=questions, mask=mask))
            return self.text_decoder.logits(decoded)

        def losses(ids: Tensor, masks: Tensor, questions: Tensor) -> Tensor:
            logits = logits_of(ids[:, :-1], masks[:, :-1], questions)
            found = distilled_losses(logits.flatten(0, 1), ids[:, 1:].flatten(), None, 0.0)
            return (found.view(len(ids), -1) * masks[:, 1:]).sum(dim=1)

        start = candidate_ids[:1, :1].expand(len(states), 1)  # [CLS]
        every = torch.arange(len(states), device=states.device)
        first = logits_of(start, torch.ones_like(start), every)[:, 0]
        return rank_answers(first, candidate_ids, candidate_masks, self.config["k_test"], losses)

    def evaluation_results(self, split: str) -> dict[str, float]:
        """Write the answers; the accuracy where the split has annotations."""
        self.predictions.gather()
        if self.global_rank == 0:
            write_submission(self.answer_file(), self.predictions, dict(enumerate(self.candidates)))
        merged = {question: accuracy for part in gathered(self.accuracies) for question, accuracy in part.items()}
        return {"acc": sum(merged.values()) / len(merged)} if merged else {}

    def answer_file(self) -> Path:
        """``result/vqa_result_epoch<E>.json`` in the run's folder; E is the last epoch's index, 0 without training."""
        epoch = max(self.current_epoch - 1, 0)  # after training it is the number of epochs
        return Path(self.config["output_dir"]) / "result" / f"vqa_result_epoch{epoch}.json"
