"""The official passes of ALBEF and X-VLM one by one, padding and all positions included, and Eq. 8 between them.

Source: docs/official/albef.md §5, §10, docs/official/xvlm.md §5, §10.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from epic_common.saliency import log_saliency
from tests.parity.replays import Outputs
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.fusion_passes import Negatives
from vlp.nn.padding import PaddedLayout


class Shown(NamedTuple):
    """The sentences' own images."""

    image: Tensor  # (B, N, c)
    mask: Tensor | None = None  # (B, N) bool, True = a token that can be seen

    def at(self, rows: Tensor) -> Shown:
        """Those of other sentences."""
        return Shown(self.image[rows], None if self.mask is None else self.mask[rows])

    def beside(self, other: Shown) -> Shown:
        """Both batches as one."""
        mask = None if self.mask is None or other.mask is None else torch.cat([self.mask, other.mask])
        return Shown(torch.cat([self.image, other.image]), mask)


def matching(
    bert: FusionEncoder, itm_head: nn.Module, shown: Shown, text: Tensor, text_mask: Tensor, negatives: Negatives
) -> Outputs:
    """Positives, then both kinds of negatives; text (B, n, d) below the fusion layers, its mask (B, n) bool."""
    positive = bert.fuse(text, PaddedLayout(text_mask), shown.image, Seen(mask=shown.mask))
    texts = torch.cat([text, text[negatives.texts]])
    masks = torch.cat([text_mask, text_mask[negatives.texts]])
    images = shown.at(negatives.images).beside(shown)
    negative = bert.fuse(texts, PaddedLayout(masks), images.image, Seen(mask=images.mask))
    logits = itm_head(torch.cat([positive[:, 0], negative[:, 0]]))
    labels = torch.cat([torch.ones(len(text)), torch.zeros(2 * len(text))]).long()
    yield "fusion_pos", positive
    yield "fusion_neg", negative
    yield "itm_logits", logits
    yield "loss_itm", F.cross_entropy(logits, labels)


class Saliency(NamedTuple):
    """What Eq. 8 reads in the penultimate layer, and what it makes of that."""

    q: Tensor  # (B, n, d) of the text
    k: Tensor  # (B, N, d) of the image
    scores: Tensor  # (B, n)
    alpha: Tensor  # (B, n)


def saliency(bert: FusionEncoder, shown: Shown, text: Tensor, text_mask: Tensor) -> Saliency:
    """Of text (B, n, d) below the fusion layers."""
    layer: Any = bert.layers[-2]
    layout, seen = PaddedLayout(text_mask), Seen(mask=shown.mask)
    states = bert.fuse(text, layout, shown.image, seen, stop=len(bert.layers) - 2)
    cross = layer.crossattention.self
    q, k = cross.query(layer.attention(states, states, layout, layout)), cross.key(shown.image)
    heads = (cross.heads, -1)
    scores = torch.einsum("bnhd,bhd->bn", q.unflatten(-1, heads), k[:, 0].unflatten(-1, heads)) / cross.heads
    return Saliency(q, k, scores, alpha(scores, text_mask))


def alpha(scores: Tensor, text_mask: Tensor) -> Tensor:
    """Softmax of scores (B, n) over the tokens of the text but its first."""
    words = text_mask.clone()
    words[:, 0] = False
    return log_saliency(scores, words).exp()
