"""What EPIC makes of a batch of sentences, for the student to judge."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Corruption:
    """A corrupted batch: the outcome of steps 1-6 of docs/method.md §2."""

    input_ids: Tensor  # (B, n) the corrupted sentence, for the student
    masked: Tensor  # (B, n) bool, M
    replaced: Tensor  # (B, n) bool, T, a subset of M
    valid: Tensor  # (B, n) bool, the tokens that Eq. 2 judges
    log_alpha: Tensor  # (B, n) log saliency, -inf where nothing can be masked; NaN where the scores are not finite
    generator_loss: Tensor  # () L_GEN (Eq. 7) with a graph; of a generator that is not trained 0 or NaN
    generator_correct: Tensor | None  # (K,) bool, whether f_L's likeliest token is the original
