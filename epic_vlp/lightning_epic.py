"""EPIC's objective in a baseline that Lightning trains: when it logs, its optimiser groups, what a checkpoint keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor

from epic_common.objective import Epic
from vlp.checkpoint.weights import read_checkpoint
from vlp.distributed import gathered
from vlp.nn.packed_text import encode_packed
from vlp.sacred_dialect.task_metrics import phase_of


class LightningEpic(Epic, ABC):
    """EPIC's objective as one entry of a baseline's step; ``model`` is always the student, a LightningModule."""

    encode = staticmethod(encode_packed)
    _logged_step = 0

    @abstractmethod
    def step(self, model: Any, batch: dict[str, Any], image: Any) -> dict[str, Tensor]:
        """Corrupt the sentence, fuse it with the true image, judge every token.

        ``image`` is what the baseline's ``encode_image`` gave. Returns ``epic_itc_loss`` (already times lambda) and
        ``epic_gen_loss``, to be added to the baseline's own losses.
        """

    def refresh(self, model: Any) -> None:
        """Before a step: renew the snapshot of "VLM (SAS)" if it is due; nothing in evaluation."""
        if model.training:
            self.maybe_refresh(model.global_step, model, self.steps_per_epoch(model))

    @staticmethod
    def steps_per_epoch(model: Any) -> int:
        """Optimiser steps of one epoch."""
        return max(int(model.trainer.num_training_batches) // model.trainer.accumulate_grad_batches, 1)

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

    def own_groups(
        self, groups: list[dict[str, Any]], learning_rate: float, head_factor: float
    ) -> list[dict[str, Any]]:
        """The official groups without EPIC's parameters, then those in groups of their own.

        The ITC head learns at ``learning_rate`` times ``head_factor``, that of the baseline's other heads
        (``epic.itc_head_lr_mult`` overrides it), the generator times ``epic.generator_lr_mult``; weight decay by the
        baseline's rule.
        """
        factors = {
            self.head: self.config.itc_head_lr_mult or head_factor,
            self.generator: self.config.generator_lr_mult,
        }
        epic = {id(p) for p in self.parameters()}
        rest = [{**group, "params": [p for p in group["params"] if id(p) not in epic]} for group in groups]
        for part, factor in factors.items():
            members = {id(p) for p in part.parameters()}
            for group in groups:
                own = [p for p in group["params"] if id(p) in members]
                if own:
                    rest.append({**group, "params": own, "lr": learning_rate * factor})
        return rest

    def run_state(self) -> dict[str, Any]:
        """What a resumed run needs beside the weights.

        Of every rank the random state and the running metrics; the step of the last log; the snapshot of "VLM (SAS)";
        the hash of the teacher, which is in no checkpoint.
        """
        return {
            "rng": gathered(self.rng_state()),
            "metrics": gathered(self.train_metrics.state_dict()),
            "logged_step": self._logged_step,
            "snapshot": self.snapshot.state_dict() if self.snapshot else None,
            "teacher_sha256": self.teacher_sha256,
        }

    def load_run_state(self, state: dict[str, Any], rank: int) -> None:
        """Go on from :meth:`run_state` of as many ranks."""
        self.set_rng_state(state["rng"][rank])
        self.train_metrics.load_state_dict(state["metrics"][rank])
        self._logged_step = state["logged_step"]
        if self.snapshot is not None and state["snapshot"] is not None:
            self.snapshot.load_state_dict(state["snapshot"])

    @property
    def teacher_sha256(self) -> str | None:
        """Hash of the file that the teacher, or the cache of its scores, came from."""
        return getattr(self.teacher, "sha256", None)

    def check_same_teacher(self, path: str) -> None:
        """Refuse to go on from the checkpoint of a run with another teacher.

        Raises:
            ValueError: naming both hashes.
        """
        state = read_checkpoint(path, mmap=True).get("epic")
        if isinstance(state, dict) and state["teacher_sha256"] != self.teacher_sha256:
            raise ValueError(
                f"resume_from={path}: its run had the teacher of sha256 {state['teacher_sha256']}, this one has "
                f"{self.teacher_sha256}; give the same teacher"
            )
