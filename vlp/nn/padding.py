"""How a stream's tokens are stored between attentions: padded, unpadded, or a subset of them as queries.

Linear layers are most of a fusion layer and see one token at a time, so padding is pure cost there; attention needs
the tokens of a sentence side by side. ``pad`` and ``unpad`` go from the one to the other and back.
"""

from __future__ import annotations

import torch
from torch import Tensor


class PaddedLayout:
    """States (B, n, d), padding included.

    Args:
        mask: (B, n) bool, True = a valid token; None = all are.
        reorder: attention over these tokens may compute its products in the order that needs fewest.
    """

    def __init__(self, mask: Tensor | None = None, reorder: bool = False) -> None:
        self.mask, self.reorder = mask, reorder

    def pad(self, states: Tensor) -> Tensor:
        """As stored -> (B, n, d), for attention."""
        return states

    def unpad(self, states: Tensor) -> Tensor:
        """(B, n, d) -> as stored."""
        return states

    def first(self, states: Tensor) -> Tensor:
        """Token 0 of every sentence, (B, 1, d)."""
        return states[:, :1]


class CompactLayout(PaddedLayout):
    """States (T, d): the T tokens of a mask, sentence after sentence; the others are stored nowhere, and 0 when padded.

    Args:
        mask: (B, n) bool, True = stored.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask)
        self.index = mask.flatten().nonzero().squeeze(1)  # (T,) places in (B·n)
        self.lengths = mask.sum(dim=1)  # (B,)

    def pad(self, states: Tensor) -> Tensor:
        flat = states.new_zeros(self.mask.numel(), states.shape[-1])
        return flat.index_copy(0, self.index, states).unflatten(0, self.mask.shape)

    def unpad(self, states: Tensor) -> Tensor:
        return states.flatten(0, 1).index_select(0, self.index)


class UnpaddedLayout(CompactLayout):
    """The valid tokens alone.

    Args:
        mask: (B, n), 1 = a valid token. Token 0 of every sentence counts as valid.
    """

    def __init__(self, mask: Tensor) -> None:
        mask = mask.bool().clone()
        mask[:, 0] = True
        super().__init__(mask)

    def first(self, states: Tensor) -> Tensor:
        return states.index_select(0, self.lengths.cumsum(0) - self.lengths)[:, None]


class QuerySubset(CompactLayout):
    """Some of the valid tokens, any number of each sentence: the queries of a layer whose other outputs nobody reads.

    Args:
        layout: how all the valid tokens are stored.
        wanted: (B, n) bool, True = a query if valid.
    """

    def __init__(self, layout: UnpaddedLayout, wanted: Tensor) -> None:
        wanted = wanted & layout.mask
        counts = wanted.sum(dim=1)
        super().__init__(torch.arange(max(int(counts.max()), 1), device=wanted.device) < counts[:, None])
        self.selected = wanted.flatten()[layout.index].nonzero().squeeze(1)  # (K,) places in (T)

    def select(self, states: Tensor) -> Tensor:
        """(T, d) -> (K, d)."""
        return states.index_select(0, self.selected)

    def pad_into(self, states: Tensor, layout: UnpaddedLayout) -> Tensor:
        """(K, d) -> (B, n, d), zeros elsewhere."""
        flat = states.new_zeros(layout.mask.numel(), states.shape[-1])
        return flat.index_copy(0, layout.index[self.selected], states).unflatten(0, layout.mask.shape)
