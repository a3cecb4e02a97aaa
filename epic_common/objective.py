"""Epic: the one object that a baseline holds (docs/method.md §2, the whole step)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from epic_common.config import EpicConfig
from epic_common.consistency import ConsistencyHead, itc_loss
from epic_common.corruption import Corruption
from epic_common.finite import zero_or_nan
from epic_common.generator import LanguageModelGenerator, TokenGenerator
from epic_common.language_models.logits import Encode
from epic_common.masked_batch import MaskedBatch, MaskedTokenLogits
from epic_common.masking import draw_masked, maskable_positions, num_masked
from epic_common.metrics import EpicMetrics
from epic_common.random_stream import RandomStream
from epic_common.saliency import log_saliency, uniform_log_alpha
from epic_common.unaided import rarity_scores, surprise_scores
from epic_common.vocabulary import Vocabulary

# Where the scores that masking is by are not finite: the part that is to blame.
_GUARDS = {"saliency": "epic_teacher_guard_loss", "surprise": "epic_generator_guard_loss"}


class Epic(nn.Module):
    """EPIC's corruption, head, losses and metrics, for any baseline.

    Its sub-modules are the generator and the head. Whoever runs the step holds the teacher, and the snapshot of "VLM
    (SAS)", and hands over what they say of a batch.

    Args:
        config: an enabled configuration.
        vocabulary: of the baseline's tokenizer.
        hidden_size: width of the student's text states.
        generator: from ``build_generator``.
        seed, rank: key of the random stream.

    Raises:
        ValueError: ``config`` is not enabled.
    """

    special_ids: Tensor
    token_counts: Tensor | None

    def __init__(
        self,
        config: EpicConfig,
        vocabulary: Vocabulary,
        hidden_size: int,
        generator: TokenGenerator,
        seed: int = 0,
        rank: int = 0,
    ) -> None:
        super().__init__()
        if not config.enabled:
            raise ValueError("epic.enabled is False: the vanilla baseline builds no Epic")
        self.config, self.vocabulary = config, vocabulary
        self.generator = generator
        self.head = ConsistencyHead(hidden_size, config.itc_head_bias, dense=config.itc_head == "dense")
        self.train_metrics, self.eval_metrics = EpicMetrics(), EpicMetrics()
        self._stream = RandomStream(seed, rank)
        self.register_buffer("special_ids", torch.tensor(vocabulary.special_ids), persistent=False)
        self.register_buffer("token_counts", None, persistent=False)

    def set_token_counts(self, counts: Tensor) -> None:
        """Take how often each token stands in the run's captions, (V,) int64, for ``epic.masking="frequency"``.

        Raises:
            ValueError: they are those of another vocabulary.
        """
        if counts.shape != (self.vocabulary.size,):
            raise ValueError(f"the counts are of {len(counts)} tokens, and the tokenizer has {self.vocabulary.size}")
        self.token_counts = counts.to(self.special_ids.device)

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

    def corrupt(
        self,
        ids: Tensor,
        mask: Tensor,
        scores: Tensor | None,
        image_cls: Tensor | None = None,
        snapshot_logits: MaskedTokenLogits | None = None,
        count: int | None = None,
        encode: Encode | None = None,
    ) -> Corruption:
        """Steps 1-6: saliency, M, [MASK], replacements, T and L_GEN.

        In eval mode every call draws the same numbers, and the training stream stays where it is.

        Args:
            ids: (B, n) unmasked token ids.
            mask: (B, n), 1 = a real token, 0 = padding.
            scores: (B, n), the teacher's of Eq. 8 (``saliency_scores``); None where masking is not by saliency.
            image_cls: (B, d_image), the student's image [CLS] feature before fusion, for "LM (cond.)".
            snapshot_logits: the student's snapshot on these images, for "VLM (SAS)".
            count: |M| of the batch where the loader knows it (:class:`MaskCount`); by default the host waits for it.
            encode: a cheaper way through f_L's encoder for these very sentences, with their [SEP] if one is appended.

        Raises:
            ValueError: the variant needs what is not given, or ``scores`` have another shape than ``ids``.
        """
        real = mask.bool()
        maskable = maskable_tokens(self.config, ids, mask, self.special_ids)
        rng = self._stream.on(ids.device) if self.training else self._stream.evaluation(ids.device)

        log_alpha = self._log_alpha(ids, mask, maskable, scores, encode)
        masked = draw_masked(log_alpha, num_masked(maskable, self.config.mask_ratio), rng)
        batch = MaskedBatch(ids, mask, masked, image_cls, snapshot_logits, count, encode)
        proposal = self.generator.propose(batch, rng)
        corrupted = ids.flatten().index_copy(0, proposal.places, proposal.tokens).view_as(ids)
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
            ``epic_itc_loss`` = lambda · L_ITC and, where the generator is trained, ``epic_gen_loss`` = L_GEN. For the
            teacher, and a generator that is not trained, ``epic_teacher_guard_loss`` and ``epic_generator_guard_loss``:
            0, or NaN where scores or logits are not finite, so that the run stops as for any other loss.
        """
        logits = self.head(text_states)
        itc = itc_loss(logits, corruption.replaced, corruption.valid, self.config.itc_reduction)
        losses = {"epic_itc_loss": self.config.itc_weight * itc}
        gen = corruption.generator_loss if self.config.trains_generator else None
        if gen is not None:
            losses["epic_gen_loss"] = self.config.generator_weight * gen
        elif self.config.replacement != "uniform":
            losses["epic_generator_guard_loss"] = corruption.generator_loss
        if self.config.masking in _GUARDS:
            guard, kept = _GUARDS[self.config.masking], zero_or_nan(~corruption.log_alpha.isnan().any())
            losses[guard] = losses[guard] + kept if guard in losses else kept
        self.metrics.update(logits, corruption, itc, gen, salient)
        return losses

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

    def _log_alpha(
        self, ids: Tensor, mask: Tensor, maskable: Tensor, scores: Tensor | None, encode: Encode | None
    ) -> Tensor:
        masking = self.config.masking
        if (scores is not None) != (masking == "saliency"):
            needed = "needs" if masking == "saliency" else "takes no"
            raise ValueError(f"epic.masking={masking!r} {needed} scores of a teacher")
        if masking == "surprise":
            assert isinstance(self.generator, LanguageModelGenerator)
            scores = surprise_scores(self.generator, ids, mask, maskable, self.config.surprise_passes, encode)
        if masking == "frequency":
            if self.token_counts is None:
                raise ValueError("epic.masking='frequency' needs set_token_counts() before the first batch")
            scores = rarity_scores(self.token_counts, ids)
        if scores is None:
            return uniform_log_alpha(maskable)
        if scores.shape != maskable.shape:
            raise ValueError(f"the teacher gave scores {tuple(scores.shape)} for ids {tuple(maskable.shape)}")
        return log_saliency(scores, maskable, self.config.saliency_temperature)


class MaskCount:
    """|M| of a batch before anything is computed, for a loader: it is decided by the sentences' lengths alone."""

    def __init__(self, config: EpicConfig, vocabulary: Vocabulary) -> None:
        self.config, self.special_ids = config, torch.tensor(vocabulary.special_ids)

    def __call__(self, ids: Tensor, mask: Tensor) -> int:
        """Of ids (B, n), mask (B, n), 1 = a real token, on the CPU."""
        return int(num_masked(maskable_tokens(self.config, ids, mask, self.special_ids), self.config.mask_ratio).sum())


def maskable_tokens(config: EpicConfig, ids: Tensor, mask: Tensor, special_ids: Tensor) -> Tensor:
    """Which tokens of ids (B, n), mask (B, n) count in len(sentence) and may be masked: (B, n) bool."""
    return mask.bool() if config.mask_special_tokens else maskable_positions(ids, mask, special_ids)
