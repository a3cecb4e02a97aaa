"""How a stream's tokens are stored between attentions: with their padding, or the valid ones alone.

Linear layers are most of a fusion layer and see one token at a time, so padding is pure cost there; attention needs
the tokens of a sentence side by side. ``spread`` and ``gather`` go from the one to the other and back.
"""

from __future__ import annotations

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


class PackedRows(Rows):
    """Packed: states (T, d), the T valid tokens row after row; padding is stored nowhere and zero where spread.

    Args:
        mask: (B, n), 1 = a valid token, padding on the right. Token 0 of every row counts as valid.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        mask = mask.bool().clone()
        mask[:, 0] = True
        super().__init__(mask)
        self.index = mask.flatten().nonzero().squeeze(1)  # (T,) places in (B·n)
        self.lengths = mask.sum(dim=1)  # (B,)

    def spread(self, states: Tensor) -> Tensor:
        flat = states.new_zeros(self.mask.numel(), states.shape[-1])
        return flat.index_copy(0, self.index, states).unflatten(0, self.mask.shape)

    def gather(self, states: Tensor) -> Tensor:
        return states.flatten(0, 1).index_select(0, self.index)

    def first(self, states: Tensor) -> Tensor:
        return states.index_select(0, self.lengths.cumsum(0) - self.lengths)[:, None]
