"""The passes of a step through a text and fusion encoder (ALBEF's and X-VLM's), run as one batch.

Sentences do not see each other, so that clean, masked and negative ones go through the encoder together; every image
is projected once; the last layer computes what is read.

Source: docs/official/albef.md §5, docs/official/xvlm.md §5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlp.data.masking import IGNORED
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM
from vlp.nn.padding import PaddedLayout, Queries, QuerySubset, stacked, with_padding


class FusionPass(NamedTuple):
    """What one objective sends through text and fusion layers, each sentence with its own image."""

    ids: Tensor  # (B, n) of its sentences
    read: Queries  # the tokens whose last states are read
    finish: Callable[[Tensor], dict[str, Any]]  # the last states (K, d) of those -> the objective's outputs


class Negatives(NamedTuple):
    """For each text the image, and for each image the text, that it does not match: (B,) int64 each."""

    images: Tensor
    texts: Tensor
    missing: Tensor | None = None  # (B,) bool, pairs for which the batch has none


def feature(projection: nn.Module, first: Tensor) -> Tensor:
    """What is contrasted: the projection of first tokens (B, d), float32 (B, embed_dim) of norm 1."""
    return F.normalize(projection(first).float(), dim=-1)


def encoder_of(text_encoder: nn.Module) -> FusionEncoder:
    """The encoder itself of one with or without a language-modelling head."""
    bert = text_encoder.bert if isinstance(text_encoder, FusionMaskedLM) else text_encoder
    assert isinstance(bert, FusionEncoder)
    return bert


def encode_together(bert: FusionEncoder, sentences: Sequence[Tensor], layout: PaddedLayout) -> list[Tensor]:
    """Several lists of B sentences, (B, n) ids each, through the text layers as one batch -> the states of each."""
    together = stacked([layout] * len(sentences))
    return list(bert.text(torch.cat(list(sentences)), together).chunk(len(sentences)))


def match(
    bert: FusionEncoder,
    itm_head: nn.Module,
    image: Tensor,
    text: Tensor,
    layout: PaddedLayout,
    negatives: Negatives,
    passes: Sequence[FusionPass] = (),
    of_passes: Sequence[Tensor] = (),
    image_mask: Tensor | None = None,
) -> dict[str, Any]:
    """Image-text matching ("itm") of 3B pairs, and beside it the passes of other objectives.

    The loss is the mean over the pairs that there are: without a negative, a pair counts by itself alone.

    Args:
        itm_head: last states of first tokens (K, d) -> (K, 2), column 1 = a match.
        image: (B, N, c) encoded images.
        text: states of the B unmasked sentences below the fusion layers, stored as the layout says.
        of_passes: those of each pass's sentences.
        image_mask: (B, N) bool, the tokens of each image that can be seen by whichever sentence has it; None = all.
    """
    assert layout.mask is not None
    size, first = len(image), Queries.first(layout.mask)
    # Only the device knows which texts were drawn, and so how long they are: they keep their padding.
    of_negatives = with_padding(layout.mask[negatives.texts], layout)
    negative_text = of_negatives.unpad(layout.pad(text)[negatives.texts])
    together = stacked([layout, of_negatives, *[layout] * len(passes), layout])
    queries = [first, first, *(each.read for each in passes), first]
    fused = bert.fuse(
        torch.cat([text, negative_text, *of_passes, text]),
        together,
        image,
        Seen(rounds=2 + len(passes), drawn=negatives.images, mask=image_mask),
        QuerySubset(together, Queries.together(queries, size)),
    ).split([len(each.row) for each in queries])
    positive, with_negative_text, *states, with_negative_image = fused
    logits = itm_head(torch.cat([positive, with_negative_image, with_negative_text]))
    labels = (torch.arange(3 * size, device=logits.device) < size).long()
    if negatives.missing is not None:
        labels[size:].masked_fill_(negatives.missing.repeat(2), IGNORED)
    outputs: dict[str, Any] = {"itm_loss": F.cross_entropy(logits.float(), labels), "itm_logits": logits}
    for each, of_pass in zip(passes, states, strict=True):
        outputs |= each.finish(of_pass)
    return outputs
