"""Scores of text tokens without a teacher and without the image: surprise and rarity, in the place of Eq. 8's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from epic_common.generator import LanguageModelGenerator
from epic_common.language_models.logits import Encode
from epic_common.masking import mask_tokens, masked_places


@torch.no_grad()
def surprise_scores(
    generator: LanguageModelGenerator,
    ids: Tensor,
    mask: Tensor,
    maskable: Tensor,
    passes: int,
    encode: Encode | None = None,
) -> Tensor:
    """-log p of each maskable token under f_L, in nats, given the sentence without it (``epic.masking="surprise"``).

    One pass over the whole sentence would see the token, and a pass for each token is dear. So pass j of k masks every
    k-th maskable token from the j-th on, and reads its tokens there; with as many passes as a sentence has maskable
    tokens each is masked alone. f_L is in eval mode, and nothing waits for the device.

    Args:
        generator: whose f_L is asked; it does not see the image.
        ids, mask: (B, n), mask 1 = a real token.
        maskable: (B, n) bool.
        passes: k.
        encode: as for :meth:`LanguageModelGenerator.logits`.

    Returns:
        (B, n) float32, 0 where nothing can be masked; NaN where f_L's logits are not finite.
    """
    size, n = ids.shape
    turn = (maskable.cumsum(dim=1) - 1) % passes
    scores = torch.zeros(size * n, device=ids.device)
    generator.language_model.eval()
    for number in range(passes):
        masked = maskable & (turn == number)
        places, real = masked_places(masked, count=size * -(-n // passes))
        sentence = mask_tokens(ids, masked, generator.vocabulary.mask_id)
        logits = generator.logits(sentence, mask, places, encode=encode)
        surprise = F.cross_entropy(logits, ids.flatten()[places], reduction="none")
        scores[places] = torch.where(real, surprise, scores[places])
    generator.train(generator.training)
    return scores.view(size, n)


def rarity_scores(counts: Tensor, ids: Tensor) -> Tensor:
    """-log(1 + how often each token stands in the run's captions), for ``epic.masking="frequency"``.

    Args:
        counts: (V,) int64, of every token of the vocabulary.
        ids: (B, n).

    Returns:
        (B, n) float32; its softmax is proportional to 1 / (1 + count).
    """
    return -counts[ids].float().log1p()
