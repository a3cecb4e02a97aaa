"""Epic: the one object that a baseline holds (docs/method.md §2, the whole step)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from epic_common.config import EpicConfig
from epic_common.consistency import ConsistencyHead, itc_loss
from epic_common.corruption import Corruption
from epic_common.generator import (
    ConditionedGenerator,
    LanguageModelGenerator,
    Proposal,
    TokenGenerator,
    UniformGenerator,
    VisionLanguageGenerator,
    Vocabulary,
)
from epic_common.language_models.logits import Encode, encode_padded
from epic_common.masking import draw_masked, maskable_positions, num_masked
from epic_common.metrics import EpicMetrics
from epic_common.random_stream import RandomStream
from epic_common.saliency import log_saliency, uniform_log_alpha
from epic_common.teacher import SaliencyTeacher, SasSnapshot, Teacher


class Epic(nn.Module):
    """EPIC's corruption, head, losses and metrics, for any baseline.

    Sub-modules are ``generator`` and ``head`` alone; the teacher and the snapshot are held outside module
    registration, absent from the state dict, the parameters and DDP.

    Args:
        config: an enabled configuration.
        vocabulary: of the baseline's tokenizer.
        hidden_size: width of the student's text states.
        language_model: f_L where ``config.replacement == "lm"``, from ``load_language_model``.
        image_width: width of the student's image [CLS] feature, for ``config.image_conditioned``.
        teacher: gives saliency; anything with ``saliency(batch)``.
        seed, rank: key of the random stream.
        first_snapshot: for "VLM (SAS)", whose first snapshot it is; by default ``teacher``.

    Raises:
        ValueError: the parts do not fit the configuration.
    """

    special_ids: Tensor
    teacher: SaliencyTeacher | None
    encode: Encode = staticmethod(
        encode_padded
    )  # how the generator's encoder is run; a baseline may know a cheaper way

    def __init__(
        self,
        config: EpicConfig,
        vocabulary: Vocabulary,
        hidden_size: int,
        language_model: PreTrainedModel | None = None,
        image_width: int | None = None,
        teacher: SaliencyTeacher | None = None,
        seed: int = 0,
        rank: int = 0,
        first_snapshot: Teacher | None = None,
    ) -> None:
        super().__init__()
        if not config.enabled:
            raise ValueError("epic.enabled is False: the vanilla baseline builds no Epic")
        if config.needs_teacher and teacher is None:
            raise ValueError(
                f"epic.masking={config.masking!r} with epic.replacement={config.replacement!r} needs a teacher: "
                "a checkpoint of the baseline pre-trained without EPIC"
            )
        self.config, self.vocabulary = config, vocabulary
        # Past nn.Module's registration: a teacher that is a module itself must not become a sub-module either.
        object.__setattr__(self, "teacher", teacher)
        self.snapshot: SasSnapshot | None = None
        if config.replacement == "vlm":
            first = first_snapshot or teacher
            if not isinstance(first, Teacher):
                raise ValueError("epic.replacement='vlm' needs a Teacher: its model is the first snapshot")
            self.snapshot = SasSnapshot(first)
        self.generator = _build_generator(config, vocabulary, language_model, image_width, self.snapshot, self.encode)
        self.head = ConsistencyHead(hidden_size, config.itc_head_bias, dense=config.itc_head == "dense")
        self.train_metrics, self.eval_metrics = EpicMetrics(), EpicMetrics()
        self._stream = RandomStream(seed, rank)
        self.register_buffer("special_ids", torch.tensor(vocabulary.special_ids), persistent=False)

    @property
    def metrics(self) -> EpicMetrics:
        """The running metrics of the current mode, training or evaluation."""
        return self.train_metrics if self.training else self.eval_metrics

    def rng_state(self) -> Tensor:
        """This rank's random state, to be saved in the checkpoint (every rank has its own)."""
        return self._stream.state()

    def set_rng_state(self, state: Tensor) -> None:
        """Go on drawing where :meth:`rng_state` was taken."""
        self._stream.set_state(state)

    def maybe_refresh(self, step: int, student: nn.Module, steps_per_epoch: int) -> bool:
        """Once per optimiser step: renew the snapshot of "VLM (SAS)" when it is due; nothing for other variants.

        Args:
            step: optimiser steps done.
            student: the baseline being trained, not wrapped in DDP.
            steps_per_epoch: the interval where ``config.sas_refresh_steps`` is 0.

        Returns:
            Whether the snapshot was renewed.
        """
        if self.snapshot is None:
            return False
        return self.snapshot.maybe_refresh(step, student, self.config.sas_refresh_steps or steps_per_epoch)

    def corrupt(self, ids: Tensor, mask: Tensor, batch: Any = None, image_cls: Tensor | None = None) -> Corruption:
        """Steps 1-6: saliency, M, [MASK], replacements, T and L_GEN.

        In eval mode every call draws the same numbers, and the training stream stays where it is.

        Args:
            ids: (B, n) unmasked token ids.
            mask: (B, n), 1 = a real token, 0 = padding.
            batch: what teacher and snapshot read.
            image_cls: (B, d_image), the student's image [CLS] feature before fusion, for "LM (cond.)".
        """
        real = mask.bool()
        words = maskable_positions(ids, mask, self.special_ids)
        maskable = real if self.config.mask_special_tokens else words
        rng = self._stream.on(ids.device) if self.training else self._stream.evaluation(ids.device)

        log_alpha = self._log_alpha(maskable, batch)
        masked = draw_masked(log_alpha, num_masked(maskable, self.config.mask_ratio), rng)
        proposal: Proposal = self.generator.propose(ids, mask, masked, rng, image_cls, batch)
        corrupted = ids.masked_scatter(masked, proposal.tokens.to(ids.dtype))
        return Corruption(
            input_ids=corrupted,
            masked=masked,
            replaced=corrupted != ids,  # Eq. 6
            valid=real if self.config.itc_special_tokens else maskable,
            log_alpha=log_alpha,
            generator_loss=proposal.loss,
            generator_correct=proposal.correct,
        )

    def losses(self, text_states: Tensor, corruption: Corruption, salient: Tensor | None = None) -> dict[str, Tensor]:
        """Steps 7-9: what a baseline adds to its own losses, already weighted; the raw values go to ``metrics``.

        Args:
            text_states: (B, n, d), the student's last text states on ``corruption.input_ids`` and the true image.
            salient: (B, n) bool ground truth of salient words, for the metrics, where it exists.

        Returns:
            ``epic_itc_loss`` = lambda · L_ITC and, where the generator is trained, ``epic_gen_loss`` = L_GEN.
        """
        logits = self.head(text_states)
        itc = itc_loss(logits, corruption.replaced, corruption.valid, self.config.itc_reduction)
        losses = {"epic_itc_loss": self.config.itc_weight * itc}
        gen = corruption.generator_loss if self.config.trains_generator else None
        if gen is not None:
            losses["epic_gen_loss"] = self.config.generator_weight * gen
        self.metrics.update(logits, corruption, itc, gen, salient)
        return losses

    def _log_alpha(self, maskable: Tensor, batch: Any) -> Tensor:
        if self.config.masking == "uniform":
            return uniform_log_alpha(maskable)
        assert self.teacher is not None
        scores = self.teacher.saliency(batch)
        if scores.shape != maskable.shape:
            raise ValueError(f"the teacher gave saliency {tuple(scores.shape)} for ids {tuple(maskable.shape)}")
        return log_saliency(scores, maskable, self.config.saliency_temperature)


def _build_generator(
    config: EpicConfig,
    vocabulary: Vocabulary,
    language_model: PreTrainedModel | None,
    image_width: int | None,
    snapshot: SasSnapshot | None,
    encode: Encode,
) -> TokenGenerator:
    if (config.replacement == "lm") != (language_model is not None):
        needed = "needs" if config.replacement == "lm" else "takes no"
        raise ValueError(f"epic.replacement={config.replacement!r} {needed} language_model")
    if snapshot is not None:
        return VisionLanguageGenerator(snapshot.mlm_logits_at, vocabulary, config)
    if language_model is None:
        return UniformGenerator(vocabulary, config)
    if not config.image_conditioned:
        return LanguageModelGenerator(language_model, vocabulary, config, encode)
    if image_width is None:
        raise ValueError("epic.image_conditioned=True needs image_width, the width of the image [CLS] feature")
    return ConditionedGenerator(language_model, vocabulary, config, image_width)
