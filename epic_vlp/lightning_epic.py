"""EPIC's objective in a baseline that Lightning trains: when it logs, its optimiser groups, what a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from epic_common.config import EpicConfig
from epic_common.corruption import Corruption
from epic_common.generator import TokenGenerator
from epic_common.objective import Epic
from epic_common.separator import mask_with_sep
from epic_common.teacher import FrozenModel, SaliencyTeacher, SasSnapshot
from epic_common.vocabulary import Vocabulary
from epic_vlp.running_average import RunningAverage
from vlp.checkpoint.weights import check_finite, named_tensors, read_checkpoint
from vlp.distributed import gathered
from vlp.nn.packed_text import TextLayout, encode_text_states
from vlp.nn.padding import PaddedLayout
from vlp.training.phase import phase_of

# What a loader tells EPIC of a batch: |M|, the scores (B, n) of a saliency cache, and the plan of f_L's own [SEP].
MASKED_COUNT, SCORES, WITH_SEP = "epic_masked_count", "epic_scores", "epic_text_with_sep"


class LightningEpic(Epic):
    """EPIC's objective as one entry of a baseline's step; ``model`` is always the student, a LightningModule.

    A baseline's subclass corrupts the sentence (:meth:`corruption_of`), fuses it with the true image, and has every
    token judged (:meth:`losses`); the losses are added to the baseline's own.

    Args:
        teacher: what gives Eq. 8's scores where masking is by saliency: the frozen model, a saliency cache, or the
            student's running average. Like the snapshot it is no ``nn.Module``, so that it is in no state dict,
            optimiser or DDP bucket.
        snapshot: of the student, for "VLM (SAS)".
        config, vocabulary, hidden_size, generator, seed, rank: as for :class:`Epic`.

    Raises:
        ValueError: teacher or snapshot are not those that the configuration asks for.
    """

    _logged_step = 0

    def __init__(
        self,
        config: EpicConfig,
        vocabulary: Vocabulary,
        hidden_size: int,
        generator: TokenGenerator,
        seed: int = 0,
        rank: int = 0,
        teacher: SaliencyTeacher | None = None,
        snapshot: SasSnapshot | None = None,
    ) -> None:
        super().__init__(config, vocabulary, hidden_size, generator, seed, rank)
        if config.scores_from_teacher != (teacher is not None and not isinstance(teacher, RunningAverage)):
            raise ValueError(
                "a teacher is needed where epic.masking='saliency', and nowhere else; not with epic.teacher='momentum'"
            )
        if (config.replacement == "vlm") != (snapshot is not None):
            raise ValueError("a snapshot is needed where epic.replacement='vlm', and nowhere else")
        self.teacher, self.snapshot = teacher, snapshot

    def collators(self, datamodule: Any) -> list[Any]:
        """What makes the batches that it takes."""
        return [datamodule.collate]

    def identify(self, datamodule: Any) -> None:
        """Have batches say which image each pair has, for the keys of a saliency cache."""
        for mixed in datamodule.sets.values():
            mixed.identify()

    def place_frozen(self, device: torch.device) -> None:
        """Move teacher and snapshot, which do not move with the model, to the device of a run before its first batch.

        Raises:
            RuntimeError: in inference mode.
        """
        for frozen in (self.teacher, self.snapshot):
            if isinstance(frozen, FrozenModel | SasSnapshot):  # a saliency cache has nothing to move
                frozen.place(device)

    def token_blocks(self, datamodule: Any) -> Sequence[list[list[int]]]:
        """The captions that it takes, for their tokens to be counted: see ``RunDataModule.token_blocks``."""
        return datamodule.token_blocks()

    def follow(self, model: Any) -> None:
        """Before the first step and after each: have the running average, where one is the teacher, follow the student.

        Calling again before the next optimiser step does nothing.
        """
        if isinstance(self.teacher, RunningAverage):
            self.teacher.follow(model, model.global_step)

    def refresh(self, model: Any) -> None:
        """Before a step: renew the snapshot of "VLM (SAS)" if it is due, but not in evaluation; :meth:`follow`."""
        self.follow(model)
        if self.snapshot is not None and model.training:
            every = self.config.sas_refresh_steps or self.steps_per_epoch(model)
            self.snapshot.maybe_refresh(model.global_step, model, every)

    @staticmethod
    def steps_per_epoch(model: Any) -> int:
        """Optimiser steps of one epoch."""
        return max(int(model.trainer.num_training_batches) // model.trainer.accumulate_grad_batches, 1)

    def corruption_of(
        self,
        ids: Tensor,
        mask: Tensor,
        batch: Any,
        image_cls: Tensor | None = None,
        layout: PaddedLayout | None = None,
        scores: Tensor | None = None,
    ) -> Corruption:
        """:meth:`corrupt` with what teacher and snapshot say of ``batch``, whose text is ids (B, n), mask (B, n).

        ``layout`` says how these sentences are stored where that is known before; f_L then reads them so, too.
        ``scores`` (B, n) are those of Eq. 8 where the momentum model is the teacher.
        """
        if self.teacher is not None:
            scores = batch[SCORES][:, : ids.shape[1]] if SCORES in batch else self.teacher.saliency(batch)
        logits = partial(self.snapshot.mlm_logits_at, batch) if self.snapshot is not None else None
        layout = self._layout_of_generator(batch, layout)
        encode = None if layout is None else partial(encode_stored, layout=layout)
        return self.corrupt(ids, mask, scores, image_cls, logits, batch.get(MASKED_COUNT), encode)

    def _layout_of_generator(self, batch: Any, layout: PaddedLayout | None) -> PaddedLayout | None:
        """How f_L stores the sentences that the student stores as ``layout`` says; None = as it comes."""
        if layout is None or not self.config.append_sep:
            return layout
        if isinstance(layout, TextLayout):
            return TextLayout(batch[WITH_SEP]) if WITH_SEP in batch else None
        assert layout.mask is not None
        return PaddedLayout(mask_with_sep(layout.mask))

    def log_interval(self, model: Any) -> None:
        """Log the metrics since the last log, reduced over ranks, if a training batch has ended an interval."""
        step = model.global_step
        if step % model.config["log_every_n_steps"] == 0 and step != self._logged_step:
            self._logged_step = step
            values = self._take(model)
            for logger in model.loggers:  # not model.log, which repeats an old value where an interval has none
                logger.log_metrics(values, step=step - 1)

    def log_epoch(self, model: Any) -> None:
        """After an evaluation epoch: log the metrics over all of it."""
        model.log_dict(self._take(model))

    def _take(self, model: Any) -> dict[str, float]:
        metrics = self.metrics.compute(model.device)
        self.metrics.reset()
        return {f"epic/{phase_of(model)}/{name}": value for name, value in metrics.items()}

    def unused_parameters(self) -> list[str] | None:
        """For DDP: names of those that no step gives a gradient; None where f_L is of a family that we do not know."""
        language_model = getattr(self.generator, "language_model", None)
        if language_model is None or not self.config.trains_generator:
            return []
        return [] if language_model.config.model_type in ("bert", "roberta") else None

    def run_state(self) -> dict[str, Any]:
        """What a resumed run needs beside the weights.

        Of every rank the random state and the running metrics; the step of the last log; the snapshot of "VLM (SAS)";
        the running average of ``epic.teacher="momentum"``; the counts of ``epic.masking="frequency"``; the hash of the
        teacher, which is in no checkpoint.
        """
        return {
            "rng": gathered(self.rng_state()),
            "metrics": gathered(self.train_metrics.state_dict()),
            "logged_step": self._logged_step,
            "snapshot": self.snapshot.state_dict() if self.snapshot else None,
            "average": self.teacher.state_dict() if isinstance(self.teacher, RunningAverage) else None,
            "token_counts": None if self.token_counts is None else self.token_counts.cpu(),
            "teacher_sha256": self.teacher_sha256,
        }

    def load_run_state(self, state: dict[str, Any], rank: int) -> None:
        """Go on from :meth:`run_state` of as many ranks."""
        self.set_rng_state(state["rng"][rank])
        self.train_metrics.load_state_dict(state["metrics"][rank])
        self._logged_step = state["logged_step"]
        if self.snapshot is not None and state["snapshot"] is not None:
            self.snapshot.load_state_dict(state["snapshot"])
        if isinstance(self.teacher, RunningAverage) and state.get("average") is not None:
            self.teacher.load_state_dict(state["average"])
        if self.config.masking == "frequency" and state.get("token_counts") is not None:
            self.set_token_counts(state["token_counts"])

    @property
    def teacher_sha256(self) -> str | None:
        """Hash of the file that the teacher, the cache of its scores, or the first snapshot came from."""
        return getattr(self.teacher or self.snapshot, "sha256", None)

    def check_same_teacher(self, path: str) -> None:
        """Refuse to go on from the checkpoint of a run with another teacher, or whose second model has diverged.

        Raises:
            ValueError: naming both hashes.
            WeightsError: naming the weights that are NaN or infinite.
        """
        state = read_checkpoint(path, mmap=True).get("epic")
        if not isinstance(state, dict):
            return
        for part in ("snapshot", "average"):
            check_finite(path, named_tensors(state.get(part), f"epic.{part}"))
        if state["teacher_sha256"] != self.teacher_sha256:
            raise ValueError(
                f"resume_from={path}: its run had the teacher of sha256 {state['teacher_sha256']}, this one has "
                f"{self.teacher_sha256}; give the same teacher"
            )


def encode_stored(encoder: PreTrainedModel, ids: Tensor, mask: Tensor, layout: PaddedLayout) -> Tensor:
    """f_L's encoder on ids (B, n) stored as ``layout`` says -> (B, n, d); ``mask`` (B, n) is the layout's."""
    return layout.pad(encode_text_states(encoder, ids, layout))
