"""EPIC in a training loop that knows nothing of it: an official checkout of a baseline, patched by a few lines.

docs/official_checkouts.md says how such a checkout is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import AutoTokenizer

from epic_common.config import EpicConfig
from epic_common.corruption import Corruption
from epic_common.generator import TokenGenerator, build_generator
from epic_common.language_models.load import load_language_model
from epic_common.objective import Epic
from epic_common.random_stream import RandomStream
from epic_common.teacher import FrozenModel, SasSnapshot, Teacher
from epic_common.vocabulary import Vocabulary


class CheckoutEpic(Epic):
    """EPIC's objective with the frozen models of its run, for a student that holds it as a sub-module.

    The frozen models are in no state dict and no optimiser, yet they move with the student. The rank, which is not
    known where launchers build their models, is asked at the first batch.

    Args:
        teacher: what gives Eq. 8's scores; None where masking is not by saliency or the momentum model gives them.
        snapshot: of the student, for "VLM (SAS)".
        config, vocabulary, hidden_size, generator, seed: as for :class:`Epic`.
    """

    def __init__(
        self,
        config: EpicConfig,
        vocabulary: Vocabulary,
        hidden_size: int,
        generator: TokenGenerator,
        seed: int = 0,
        teacher: Teacher | None = None,
        snapshot: SasSnapshot | None = None,
    ) -> None:
        super().__init__(config, vocabulary, hidden_size, generator, seed)
        self.teacher, self.snapshot, self.seed = teacher, snapshot, seed
        self._began, self._evaluated, self._logged_step = False, False, 0

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> CheckoutEpic:
        super()._apply(fn, *args, **options)
        for frozen in self._frozen():
            frozen.module._apply(fn, *args, **options)
        return self

    def _frozen(self) -> list[FrozenModel]:
        """Teacher and snapshot, which are one before the snapshot's first refresh."""
        held = [self.teacher, self.snapshot.frozen if self.snapshot is not None else None]
        return list({id(frozen): frozen for frozen in held if frozen is not None}.values())

    def corruption_of(
        self, ids: Tensor, mask: Tensor, batch: Any, image_cls: Tensor | None = None, scores: Tensor | None = None
    ) -> Corruption:
        """:meth:`corrupt` with what teacher and snapshot say of ``batch``, whose text is ids (B, n), mask (B, n).

        ``scores`` (B, n) are those of Eq. 8 where the momentum model is the teacher.
        """
        if not self._began:
            self._begin(dist.get_rank() if _distributed() else 0)
        if self.teacher is not None:
            scores = self.teacher.saliency(batch)
        logits = partial(self.snapshot.mlm_logits_at, batch) if self.snapshot is not None else None
        return self.corrupt(ids, mask, scores, image_cls, logits)

    def _begin(self, rank: int) -> None:
        self._stream, self._began = RandomStream(self.seed, rank), True

    def refresh(self, student: nn.Module, step: int, steps_per_epoch: int) -> None:
        """Before optimiser step ``step`` + 1: renew the snapshot of "VLM (SAS)" if it is due."""
        if self.snapshot is not None:
            self.snapshot.maybe_refresh(step, student, self.config.sas_refresh_steps or max(steps_per_epoch, 1))

    def metrics_due(self, step: int, every: int) -> dict[str, dict[str, float]]:
        """What to log after a training batch: phase -> metrics, all ranks'; every rank must ask at the same batches.

        Those of training once in ``every`` optimiser steps, those of an evaluation when training goes on after it.
        """
        due = {}
        if self._evaluated:
            due["val"], self._evaluated = self.eval_metrics, False
        if step % every == 0 and step != self._logged_step:
            due["train"], self._logged_step = self.train_metrics, step
        values = {phase: metrics.compute(self.special_ids.device) for phase, metrics in due.items()}
        for metrics in due.values():
            metrics.reset()
        return values

    def losses(self, text_states: Tensor, corruption: Corruption, salient: Tensor | None = None) -> dict[str, Tensor]:
        self._evaluated |= not self.training
        return super().losses(text_states, corruption, salient)

    @property
    def teacher_sha256(self) -> str | None:
        """Hash of the file that the teacher, or the first snapshot, came from."""
        return getattr(self.teacher or self.snapshot, "sha256", None)

    def run_state(self) -> dict[str, Any]:
        """What a resumed run needs beside the weights, in the form of our own checkpoints; all ranks must ask."""
        return {
            "rng": _gathered(self.rng_state()),
            "metrics": _gathered(self.train_metrics.state_dict()),
            "logged_step": self._logged_step,
            "snapshot": self.snapshot.state_dict() if self.snapshot else None,
            "teacher_sha256": self.teacher_sha256,
        }

    def load_run_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`run_state` of as many ranks.

        Raises:
            ValueError: the run had another teacher or another number of processes.
        """
        rank, size = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
        if len(state["rng"]) != size:
            raise ValueError(
                f"the checkpoint with EPIC was saved by {len(state['rng'])} processes and this run has {size}; "
                "resume with as many"
            )
        if state["teacher_sha256"] != self.teacher_sha256:
            raise ValueError(
                f"the run of the checkpoint had the teacher of sha256 {state['teacher_sha256']}, this one has "
                f"{self.teacher_sha256}; give the same teacher_path"
            )
        self._begin(rank)
        self.set_rng_state(state["rng"][rank])
        self.train_metrics.load_state_dict(state["metrics"][rank])
        self._logged_step = state["logged_step"]
        if self.snapshot is not None and state["snapshot"] is not None:
            self.snapshot.load_state_dict(state["snapshot"])


def build_checkout_epic(
    settings: EpicConfig,
    text_encoder: str,
    hidden_size: int,
    image_width: int,
    seed: int,
    teacher_path: str,
    new_teacher: Callable[[], nn.Module],
    tokenizer: Any = None,
    momentum_model: bool = False,
) -> CheckoutEpic:
    """EPIC's parts for an already built student; the random state is left as it was.

    Args:
        text_encoder: name or folder of the baseline's text encoder, which f_L and the tokenizer are by default.
        new_teacher: builds the frozen model and loads ``teacher_path``; called only where one is needed.
        tokenizer: the baseline's own, where it is at hand.
        momentum_model: whether it keeps a running average of itself, for :meth:`CheckoutEpic.corruption_of`.

    Raises:
        ValueError: a teacher is needed and ``teacher_path`` is empty or no file; the language model does not fit; or
            masking wants what such a loop does not keep, a running average of the student or counts of its captions.
    """
    no_average = not momentum_model and settings.scores_from_momentum
    no_counts = settings.masking == "frequency"
    for refused, key, value, lacking in (
        (no_average, "teacher", "momentum", "no running average of its weights: give teacher_path"),
        (no_counts, "masking", "frequency", "no counts of its captions' tokens: choose another masking"),
    ):
        if refused:
            raise ValueError(f"epic.{key}={value!r} is not possible in an official checkout, which keeps {lacking}")
    if settings.needs_teacher and not teacher_path:
        raise ValueError("epic.enabled needs teacher_path=CHECKPOINT, a model pre-trained without EPIC")
    if settings.needs_teacher and not Path(teacher_path).is_file():
        raise ValueError(f"teacher_path={teacher_path}: no such file")
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(text_encoder)
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    with torch.random.fork_rng(devices=[]):  # all is built on the CPU
        language_model = load_language_model(settings, text_encoder, tokenizer)
        generator = build_generator(settings, vocabulary, language_model, image_width)
        held = None
        if settings.needs_teacher:
            held = Teacher(new_teacher(), settings.saliency_layer, teacher_path)  # type: ignore[arg-type]
        return CheckoutEpic(
            settings,
            vocabulary,
            hidden_size,
            generator,
            seed,
            teacher=held if settings.scores_from_teacher else None,
            snapshot=SasSnapshot(held) if settings.replacement == "vlm" and held is not None else None,
        )


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _gathered(value: Any) -> list[Any]:
    """The values of all ranks, in their order."""
    if not _distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
