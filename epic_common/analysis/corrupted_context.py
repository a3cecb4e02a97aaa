"""The context of masked tokens, a share of it drawn anew by a masked language model (docs/method.md §6, Fig. 2b)."""

from __future__ import annotations

import torch
from torch import Tensor

from epic_common.generator import LanguageModelGenerator
from epic_common.masked_batch import MaskedBatch
from epic_common.masking import draw_masked, mask_tokens, maskable_positions, num_masked
from epic_common.saliency import uniform_log_alpha


@torch.no_grad()
def corrupted_context(
    generator: LanguageModelGenerator, ids: Tensor, mask: Tensor, masked: Tensor, share: float, rng: torch.Generator
) -> Tensor:
    """Sentences whose tokens in M are masked, and of whose other tokens a share is drawn from the generator's softmax.

    The generator reads both as mask tokens. As in Eq. 5 the original token can be drawn again. Special tokens stay.

    Args:
        generator: frozen, in eval mode.
        ids: (B, n) original tokens.
        mask: (B, n), 1 = a real token, 0 = padding.
        masked: (B, n) bool, M.
        share: in [0, 1], of each sentence's unmasked tokens, rounded up to whole ones.
        rng: on the device of ``ids``.

    Returns:
        (B, n) token ids.
    """
    vocabulary = generator.vocabulary
    sentence = mask_tokens(ids, masked, vocabulary.mask_id)
    others = maskable_positions(ids, mask, torch.tensor(vocabulary.special_ids)) & ~masked
    chosen = draw_masked(uniform_log_alpha(others), num_masked(others, share), rng)
    drawn = generator.propose(MaskedBatch(sentence, mask, chosen), rng)
    return sentence.flatten().index_copy(0, drawn.places, drawn.tokens).view_as(sentence)
