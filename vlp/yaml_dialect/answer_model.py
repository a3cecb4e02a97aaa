"""VQA with an answer decoder: trained on the annotators' answers, asked to rank a list of candidates.

Source: docs/official/albef.md §7, docs/official/xvlm.md §7.2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlp.data.json.text import encode_cls
from vlp.distributed import gathered
from vlp.evaluation.answer_ranking import Ranking, rank_answers
from vlp.evaluation.vqa import Predictions, answer_accuracy, write_submission
from vlp.losses.distillation import distilled_losses
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionMaskedLM
from vlp.nn.packed_text import TextPlan
from vlp.nn.padding import PaddedLayout
from vlp.nn.step_plan import plan_of
from vlp.yaml_dialect.epoch_module import EpochModule

States = tuple[Tensor, Tensor]  # (B, n, d) of the questions with their images, and which are tokens, (B, n) bool


class AnswerModel(EpochModule):
    """What the models of ALBEF's and X-VLM's VQA share; their own encoders give ``question_states``."""

    text_decoder: FusionMaskedLM

    def __init__(self, *args: Any, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self.candidates: list[str] = []
        self.candidate_ids = self.candidate_masks = torch.empty(0, 0, dtype=torch.long)
        self.predictions = Predictions()
        self.accuracies: dict[int, float] = {}

    def question_states(self, batch: dict[str, Any], plan: TextPlan) -> States:
        """Encode questions with their images."""
        raise NotImplementedError

    def answer_logits(
        self, decoder: FusionMaskedLM, batch: dict[str, Any], plan: dict[str, Any], questions: States
    ) -> Tensor:
        """Of each token that predicts a next one, (K, V): answers beside each other share their question's states."""
        layout, (states, mask) = self.text_layout(plan["answers"]), questions
        seen = Seen(rounds=0, drawn=plan["answer_questions"], mask=mask)
        decoded = decoder.bert(batch["answer_ids"], layout, states, seen)
        return decoder.logits(layout.at(plan["answer_reads"], decoded))

    @staticmethod
    def answer_loss(
        logits: Tensor, batch: dict[str, Any], plan: dict[str, Any], soft: Tensor | None = None, alpha: float = 0.0
    ) -> Tensor:
        """The answers' summed next-token losses by their weights, for each image of the batch.

        Args:
            logits, soft: (K, V) of :meth:`answer_logits`; the momentum model's, of the weight ``alpha``.
        """
        reads = plan["answer_reads"]
        losses = distilled_losses(logits, batch["answer_ids"][reads.row, reads.place + 1], soft, alpha)
        return (losses * batch["answer_weights"][reads.row]).sum() / len(batch["text_ids"])

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
            data.tokenizer, closed, self.text_decoder.bert.embeddings.position_embeddings.num_embeddings, spelled=True
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
        """``result/vqa_result_epoch<E>.json`` in the run's folder."""
        return Path(self.config["output_dir"]) / "result" / f"vqa_result_epoch{self.scored_epoch}.json"
