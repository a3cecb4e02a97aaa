"""What METER's and ViLT's Lightning modules share: tasks switched by ``loss_names``, their steps and their logs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vlp.data.trim import trimmed
from vlp.evaluation.vqa import Predictions
from vlp.losses.total import losses_of, total_loss
from vlp.nn.packed_text import TextPlan, text_layout
from vlp.nn.padding import PaddedLayout
from vlp.sacred_dialect.step_plan import draw_itm_labels, text_plan, with_labels
from vlp.sacred_dialect.task_metrics import epoch_wrapup, log_step
from vlp.sacred_dialect.tasks import Tasks


class TaskModule(Tasks):
    """A model that trains and evaluates its tasks; a subclass gives the objectives of a batch in ``step_outputs``."""

    rank_output: nn.Linear

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.step_losses: dict[str, Tensor] = {}  # of the last training batch
        self.vqa_predictions = Predictions()

    def forward(self, batch: dict[str, Any], itm_labels: Tensor | None = None) -> dict[str, Any]:
        """All active objectives of one batch; entries whose key ends in ``_loss`` are summed and trained.

        ``itm_labels`` (B,) fixes which samples keep their image in ITM; by default they are the batch's, or drawn.
        Without an active task the result is that of ``infer``.
        """
        if not self.current_tasks:
            return self.infer(batch)
        if itm_labels is None and "itm" in self.current_tasks and "itm_labels" not in batch:
            itm_labels = draw_itm_labels(len(batch["text_ids"])).to(batch["text_ids"].device)
        if itm_labels is not None:
            batch = with_labels(batch, itm_labels)
        return self.step_outputs(self.prepared(batch))

    def plan(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What a loader's batch has under ``plan``, for one that was made in another way."""
        return text_plan(batch)

    def text_layout(self, plan: TextPlan) -> PaddedLayout:
        """How sentences are stored: without padding, unless ``pack_text=False``."""
        return text_layout(plan, self.config["pack_text"])

    def prepared(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with its plan, and its text cut to the longest sentence."""
        if "plan" not in batch:
            batch = {**batch, **self.plan(batch)}
        return trimmed(batch, batch["plan"]["text"].tokens.mask.shape[1])

    def infer(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One full pass of the official model over text and image, nothing skipped."""
        raise NotImplementedError

    def step_outputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The outputs of all active objectives, what they share computed once.

        Args:
            batch: :meth:`prepared`; with ITM it has ``itm_labels`` (B,), 1 = keeps its image.
        """
        raise NotImplementedError

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        outputs = self(batch)
        log_step(self, outputs, batch)
        self.step_losses = {name: loss.detach() for name, loss in losses_of(outputs).items()}
        return total_loss(outputs)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        log_step(self, self(batch), batch)

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        if "vqa" in self.current_tasks:  # its test questions have no answers to measure by
            self.vqa_predictions.add(batch["qid"], self(batch)["vqa_logits"])
        else:
            self.validation_step(batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        epoch_wrapup(self)

    def on_validation_epoch_end(self) -> None:
        epoch_wrapup(self)

    def on_test_epoch_end(self) -> None:
        if "vqa" in self.current_tasks:
            self.vqa_predictions.gather()
        else:
            epoch_wrapup(self)
