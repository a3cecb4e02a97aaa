"""One more token at a time: a causal fusion encoder that keeps the keys and values of what it has read.

An image's keys and values are computed once for all sequences that describe it, a token's once for all that follow it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM

KeysValues = tuple[Tensor, Tensor]  # (…, h, tokens, d_h) each


class CachedDecoder:
    """``beams`` sequences for each of B images, all of one length; in evaluation mode, the numbers of the full pass."""

    def __init__(self, lm: FusionMaskedLM, images: Tensor, beams: int) -> None:
        """images: (B, P, c) encoded."""
        self.lm, self.beams, self.length = lm, beams, 0
        self.bert: FusionEncoder = lm.bert
        self.images = [self._image_keys_values(layer, images) for layer in self.bert.layers]
        self.past: list[KeysValues | None] = [None] * len(self.bert.layers)

    @staticmethod
    def _image_keys_values(layer: Any, images: Tensor) -> KeysValues | None:
        if not hasattr(layer, "crossattention"):
            return None
        cross = layer.crossattention.self
        return cross.split_heads(cross.key(images)), cross.split_heads(cross.value(images))

    def next(self, ids: Tensor) -> Tensor:
        """The newest tokens (B·beams,), an image's sequences beside each other -> logits (B·beams, V) of the next."""
        x = self.bert.embeddings.embed(ids[:, None], torch.full_like(ids[:, None], self.length))
        for i in range(len(self.past)):
            x = self._layer(i, x)
        self.length += 1
        return self.lm.logits(x[:, 0])

    def reorder(self, rows: Tensor) -> None:
        """Go on with the sequences rows (B·beams,) int64, which stay with their images."""
        self.past = [pair and (pair[0][rows], pair[1][rows]) for pair in self.past]

    def _layer(self, i: int, x: Tensor) -> Tensor:
        """x (B·beams, 1, d) of the newest token -> the same of the next layer."""
        layer: Any = self.bert.layers[i]
        own, past, image = layer.attention.self, self.past[i], self.images[i]
        k, v = own.split_heads(own.key(x)), own.split_heads(own.value(x))
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        self.past[i] = k, v
        attended = own.attend(own.split_heads(own.query(x)), k, v, None)  # all that it keeps is past
        x = layer.attention.output(attended.transpose(1, 2).flatten(2), x)
        if image is not None:
            cross = layer.crossattention.self
            queries = cross.query(x).view(-1, self.beams, x.shape[-1])  # an image's sequences ask it together
            attended = cross.attend(cross.split_heads(queries), *image, None)
            x = layer.crossattention.output(attended.transpose(1, 2).flatten(2).view_as(x), x)
        return layer.output(layer.intermediate(x), x)
