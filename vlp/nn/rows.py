"""How a stream's tokens are stored between attentions: with their padding, or the valid ones alone.

Linear layers are most of a fusion layer and see one token at a time, so padding is pure cost there; attention needs
the tokens of a sentence side by side. ``spread`` and ``gather`` go from the one to the other and back.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Rows:
    """Padded: states (B, n, d).

    Args:
        mask: (B, n) bool, True = a valid token; None = all are.
        reorder: attention over these tokens may compute its products in the order that needs fewest.
    """

    def __init__(self, mask: Tensor | None = None, reorder: bool = False) -> None:
        self.mask, self.reorder = mask, reorder

    def spread(self, states: Tensor) -> Tensor:
        """As stored -> (B, n, d), for attention."""
        return states

    def gather(self, states: Tensor) -> Tensor:
        """(B, n, d) -> as stored."""
        return states

    def first(self, states: Tensor) -> Tensor:
        """Token 0 of every row, (B, 1, d)."""
        return states[:, :1]


class StoredRows(Rows):
    """States (T, d): the T tokens of a mask row after row; the others are stored nowhere, and zero where spread.

    Args:
        mask: (B, n) bool, True = stored.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask)
        self.index = mask.flatten().nonzero().squeeze(1)  # (T,) places in (B·n)
        self.lengths = mask.sum(dim=1)  # (B,)

    def spread(self, states: Tensor) -> Tensor:
        flat = states.new_zeros(self.mask.numel(), states.shape[-1])
        return flat.index_copy(0, self.index, states).unflatten(0, self.mask.shape)

    def gather(self, states: Tensor) -> Tensor:
        return states.flatten(0, 1).index_select(0, self.index)


class PackedRows(StoredRows):
    """The valid tokens alone.

    Args:
        mask: (B, n), 1 = a valid token. Token 0 of every row counts as valid.
    """

    def __init__(self, mask: Tensor) -> None:
        mask = mask.bool().clone()
        mask[:, 0] = True
        super().__init__(mask)

    def first(self, states: Tensor) -> Tensor:
        return states.index_select(0, self.lengths.cumsum(0) - self.lengths)[:, None]


class PickedRows(StoredRows):
    """Some tokens of packed rows, any number of each: the queries of a layer whose other outputs nobody reads.

    Args:
        rows: how all the tokens are stored.
        wanted: (B, n) bool, True = wanted if valid.
    """

    def __init__(self, rows: PackedRows, wanted: Tensor) -> None:
        wanted = wanted & rows.mask
        counts = wanted.sum(dim=1)
        super().__init__(torch.arange(max(int(counts.max()), 1), device=wanted.device) < counts[:, None])
        self.picked = wanted.flatten()[rows.index].nonzero().squeeze(1)  # (K,) places in (T)

    def pick(self, states: Tensor) -> Tensor:
        """(T, d) -> (K, d)."""
        return states.index_select(0, self.picked)

    def put_back(self, states: Tensor, rows: PackedRows) -> Tensor:
        """(K, d) -> (B, n, d), zeros elsewhere."""
        flat = states.new_zeros(rows.mask.numel(), states.shape[-1])
        return flat.index_copy(0, rows.index[self.picked], states).unflatten(0, rows.mask.shape)
