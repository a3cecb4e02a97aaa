"""How a stream's tokens are stored between attentions: padded, unpadded, or a subset of them as queries.

Linear layers are most of a fusion layer and see one token at a time, so padding is pure cost there; attention needs
the tokens of a sentence side by side. ``pad`` and ``unpad`` go from the one to the other and back.

Where tokens stand is a matter of lengths alone. A loader works it out on the CPU (:class:`TokenPlan`,
:class:`Queries`), so that no GPU is asked how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class TokenPlan(NamedTuple):
    """The T valid tokens of B sentences, sentence after sentence."""

    mask: Tensor  # (B, n) bool, True = a valid token
    row: Tensor  # (T,) int64, the sentence of each
    place: Tensor  # (T,) int64, its position there

    @classmethod
    def of(cls, mask: Tensor) -> TokenPlan:
        """Of mask (B, n), 1 = a valid token. Token 0 of every sentence counts as valid."""
        mask = mask.bool().clone()
        mask[:, 0] = True
        return cls(mask, *mask.nonzero(as_tuple=True))

    @classmethod
    def together(cls, plans: Sequence[TokenPlan]) -> TokenPlan:
        """Several batches of one n as one batch."""
        starts = [sum(len(plan.mask) for plan in plans[:i]) for i in range(len(plans))]
        return cls(
            torch.cat([plan.mask for plan in plans]),
            torch.cat([plan.row + start for plan, start in zip(plans, starts, strict=True)]),
            torch.cat([plan.place for plan in plans]),
        )


class Queries(NamedTuple):
    """K tokens that are read, sentence after sentence; the others of their layer need not be computed."""

    row: Tensor  # (K,) int64
    place: Tensor  # (K,) int64
    most: int  # of one sentence, at least 1

    @classmethod
    def of(cls, wanted: Tensor) -> Queries:
        """Of wanted (B, n) bool, True = read."""
        row, place = wanted.nonzero(as_tuple=True)
        return cls(row, place, max(int(wanted.sum(dim=1).max()), 1))

    @classmethod
    def first(cls, mask: Tensor) -> Queries:
        """Token 0 of every sentence of mask (B, n)."""
        row = torch.arange(len(mask), device=mask.device)
        return cls(row, torch.zeros_like(row), 1)

    @classmethod
    def at(cls, places: Tensor, n: int) -> Queries:
        """Places (K,) of a grid (B, n), ascending."""
        return cls(places // n, places % n, n)

    @classmethod
    def together(cls, queries: Sequence[Queries], size: int) -> Queries:
        """Those of several batches of ``size`` sentences as of one batch."""
        row = torch.cat([each.row + i * size for i, each in enumerate(queries)])
        return cls(row, torch.cat([each.place for each in queries]), max(each.most for each in queries))

    @classmethod
    def all_of(cls, plan: TokenPlan) -> Queries:
        """Every valid token."""
        return cls(plan.row, plan.place, plan.mask.shape[1])


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

    def at(self, queries: Queries, states: Tensor) -> Tensor:
        """As stored -> the queries alone (K, d)."""
        return states[queries.row, queries.place]


class CompactLayout(PaddedLayout):
    """States (T, d): T places of a grid (B, n), sentence after sentence; the others are stored nowhere, 0 when padded.

    Args:
        mask: (B, n) bool, True = a valid token; all of them are stored.
        index: (T,) those places in (B·n), ascending.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, index: Tensor) -> None:
        super().__init__(mask)
        self.index = index

    def pad(self, states: Tensor) -> Tensor:
        flat = states.new_zeros(self.mask.numel(), states.shape[-1])
        return flat.index_copy(0, self.index, states).unflatten(0, self.mask.shape)

    def unpad(self, states: Tensor) -> Tensor:
        return states.flatten(0, 1).index_select(0, self.index)

    def at(self, queries: Queries, states: Tensor) -> Tensor:
        order = torch.arange(len(self.index), device=self.index.device)
        stored_at = order.new_zeros(self.mask.numel()).index_copy(0, self.index, order)
        return states.index_select(0, stored_at[queries.row * self.mask.shape[1] + queries.place])


class UnpaddedLayout(CompactLayout):
    """The valid tokens alone."""

    def __init__(self, plan: TokenPlan) -> None:
        super().__init__(plan.mask, plan.row * plan.mask.shape[1] + plan.place)
        lengths = plan.mask.sum(dim=1)
        self.starts = lengths.cumsum(0) - lengths  # (B,) of each sentence in T

    def first(self, states: Tensor) -> Tensor:
        return states.index_select(0, self.starts)[:, None]


def stacked(layouts: Sequence[PaddedLayout]) -> PaddedLayout:
    """Several batches of one n as one, each stored as its layout says: padded ones, or compact ones."""
    mask = torch.cat([layout.mask for layout in layouts if layout.mask is not None])
    compact = [layout for layout in layouts if isinstance(layout, CompactLayout)]
    if not compact:
        return PaddedLayout(mask)
    starts = [sum(layout.mask.numel() for layout in compact[:i]) for i in range(len(compact))]
    return CompactLayout(mask, torch.cat([layout.index + at for layout, at in zip(compact, starts, strict=True)]))


def with_padding(mask: Tensor, beside: PaddedLayout) -> PaddedLayout:
    """A layout of mask (B, n) that stores padding, too, and can be stacked with ``beside``.

    For sentences whose lengths only the device knows.
    """
    if not isinstance(beside, CompactLayout):
        return PaddedLayout(mask)
    return CompactLayout(mask, torch.arange(mask.numel(), device=mask.device))


class QuerySubset(CompactLayout):
    """Some of the valid tokens, any number of each sentence: the queries of a layer whose other outputs nobody reads.

    They are padded to (B, the most of one sentence).
    """

    def __init__(self, layout: PaddedLayout, queries: Queries) -> None:
        assert layout.mask is not None
        self.layout, self.queries = layout, queries
        size = len(layout.mask)
        counts = queries.row.new_zeros(size).index_add(0, queries.row, torch.ones_like(queries.row))
        before = (counts.cumsum(0) - counts)[queries.row]
        rank = torch.arange(len(queries.row), device=queries.row.device) - before
        mask = torch.arange(queries.most, device=counts.device) < counts[:, None]
        super().__init__(mask, queries.row * queries.most + rank)

    def select(self, states: Tensor) -> Tensor:
        """As the layout stores them -> (K, d)."""
        return self.layout.at(self.queries, states)


def spread(states: Tensor, queries: Queries, shape: Sequence[int]) -> Tensor:
    """States (K, d) at their places of a grid (B, n) = ``shape``, (B, n, d); zeros elsewhere."""
    flat = states.new_zeros(shape[0] * shape[1], states.shape[-1])
    return flat.index_copy(0, queries.row * shape[1] + queries.place, states).unflatten(0, tuple(shape))
