"""Sentences with the positions M that a generator proposes replacements for, and what it may read of them besides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from epic_common.language_models.logits import Encode
from epic_common.masking import mask_tokens, masked_places

# (masked ids (B, n), M as (K,) places in (B·n)) -> (K, V) logits there.
MaskedTokenLogits = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class MaskedBatch:
    """B sentences of n tokens.

    Attributes:
        ids: (B, n) original token ids.
        mask: (B, n), 1 = a real token.
        masked: (B, n) bool, M.
        image_cls: (B, d_image), the student's image [CLS] feature; "LM (cond.)" alone needs it.
        snapshot_logits: the student's snapshot on these images; "VLM (SAS)" alone needs it.
        count: |M| where the loader knows it, see :func:`masked_places`.
        encode: a cheaper way through f_L's encoder for these very sentences, with their [SEP] if one is appended.
    """

    ids: Tensor
    mask: Tensor
    masked: Tensor
    image_cls: Tensor | None = None
    snapshot_logits: MaskedTokenLogits | None = None
    count: int | None = None
    encode: Encode | None = None

    def places(self) -> tuple[Tensor, Tensor]:
        """M as (K,) places in (B·n), and (K,) bool, True = in M (:func:`masked_places`)."""
        return masked_places(self.masked, self.count)

    def sentences(self, mask_id: int) -> Tensor:
        """Eq. 3: the masked sentences (B, n)."""
        return mask_tokens(self.ids, self.masked, mask_id)
