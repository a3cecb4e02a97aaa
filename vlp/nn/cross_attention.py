"""Text that attends to images, where several sentences of a step see the same image.

The keys and values of an image are more than half of a fusion layer's work. They are computed once for each distinct
image, not once for each sentence that sees it: the same numbers, since sentences do not see each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vlp.nn.attention import AttentionProjections, ResidualOutput
from vlp.nn.padding import PaddedLayout

# (queries (J, h, n, d_h), which images they see: (J,) int64 or a slice of all) -> (J, h, n, d_h)
Attend = Callable[[Tensor, Tensor | slice], Tensor]


class Seen(NamedTuple):
    """Which of I images each of R sentences sees: first whole rounds over all images, then drawn ones."""

    rounds: int = 1  # sentences 0 .. I·rounds - 1: sentence r sees image r mod I
    drawn: Tensor | None = None  # (R - I·rounds,) int64, the images of the sentences behind them
    mask: Tensor | None = None  # (I, N) bool, True = a token that can be seen; None = all are


class CrossAttentionProjections(AttentionProjections):
    """q of the text, k and v of the images, and the attention itself, with each image's k and v computed once.

    Where few tokens ask, the images are not projected at all (:meth:`AttentionProjections.unprojected`).
    ``keep_map = True`` needs one round and nothing drawn; ``attention_map`` is then (B, heads, n, N).
    """

    def forward(self, x: Tensor, layout: PaddedLayout, images: Tensor, seen: Seen) -> Tensor:  # type: ignore[override]
        """x, R sentences stored as the layout says, images (I, N, c) -> as x."""
        q = self.split_heads(layout.pad(self.query(x)))  # (R, h, n, d_h)
        attend = self._attention_over(images, seen, asking=len(q) * q.shape[2] // len(images))
        of_rounds = len(images) * seen.rounds
        attended = [self._in_rounds(q[:of_rounds], seen.rounds, attend)] if seen.rounds else []
        if seen.drawn is not None:
            attended.append(attend(q[of_rounds:], seen.drawn))
        states = torch.cat(attended) if len(attended) > 1 else attended[0]
        return layout.unpad(states.transpose(1, 2).flatten(2))

    def _attention_over(self, images: Tensor, seen: Seen, asking: int) -> Attend:
        """How queries of chosen images are answered, if ``asking`` tokens ask each image."""

        def mask_of(rows: Tensor | slice) -> Tensor | None:
            return None if seen.mask is None else seen.mask[rows][:, None, None, :]

        if not self.keep_map and self.unprojected_is_cheaper(asking, *images.shape[1:]):
            return lambda q, rows: self.unprojected(q, images[rows], mask_of(rows))
        k, v = (self.split_heads(projection(images)) for projection in (self.key, self.value))
        return lambda q, rows: self.attend(q, k[rows], v[rows], mask_of(rows))

    @staticmethod
    def _in_rounds(q: Tensor, rounds: int, attend: Attend) -> Tensor:
        """All sentences of an image ask it as if they were one: q (I·rounds, h, n, d_h) -> the same shape."""
        if rounds == 1:
            return attend(q, slice(None))
        by_image = q.unflatten(0, (rounds, -1)).permute(1, 2, 0, 3, 4)  # (I, h, rounds, n, d_h)
        attended = attend(by_image.flatten(2, 3), slice(None))
        return attended.unflatten(2, by_image.shape[2:4]).permute(2, 0, 1, 3, 4).flatten(0, 1)


class CrossAttentionBlock(nn.Module):
    """Cross-attention with residual and LayerNorm (keys ``self.*`` and ``output.*``)."""

    def __init__(self, projections: CrossAttentionProjections, output: ResidualOutput) -> None:
        super().__init__()
        self.self = projections
        self.output = output

    def forward(self, x: Tensor, layout: PaddedLayout, images: Tensor, seen: Seen) -> Tensor:
        """x, R sentences stored as the layout says, images (I, N, c) -> as x."""
        return self.output(self.self(x, layout, images, seen), x)
