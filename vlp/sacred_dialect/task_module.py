"""What METER's and ViLT's Lightning modules share: tasks switched by ``loss_names``, their steps and their logs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vlp.data.trim import trimmed
from vlp.evaluation.vqa import Predictions
from vlp.losses.total import losses_of, total_loss
from vlp.sacred_dialect.objectives import with_matching
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

        ``itm_labels`` (B,) fixes which samples keep their image in ITM; by default they are the batch's, or drawn
        where it has none. Without an active task the result is that of ``infer``.

        Raises:
            ValueError: the batch holds no false images for these labels.
        """
        if not self.current_tasks:
            return self.infer(batch)
        if "itm" in self.current_tasks:
            batch = with_matching(batch, itm_labels)
            itm_labels = batch["itm_labels"]
        return self.step_outputs(trimmed(batch), batch, itm_labels)

    def infer(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One full pass of the official model over text and image, nothing skipped."""
        raise NotImplementedError

    def step_outputs(
        self, batch: dict[str, Any], untrimmed: dict[str, Any], itm_labels: Tensor | None
    ) -> dict[str, Any]:
        """The outputs of all active objectives, what they share computed once.

        Args:
            batch: its text cut to the longest sentence; ``untrimmed``: as it came.
            itm_labels: (B,) 1 = keeps its image in ITM; None without that task. With it the batch has
                ``itm_negatives`` (N,) and the false images of these rows alone.
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
