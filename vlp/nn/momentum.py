"""Momentum models: copies whose weights follow those of the trained ones (docs/official/albef.md §5)."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def momentum_copy(module: nn.Module) -> nn.Module:
    """A copy of ``module`` that takes no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(pairs: Iterable[tuple[nn.Module, nn.Module]], momentum: float) -> None:
    """m <- momentum · m + (1 - momentum) · p of every parameter, for pairs (trained module, its copy)."""
    mix(*parameters_of(pairs), momentum)


def mix(trained: list[Tensor], copies: list[Tensor], momentum: float) -> None:
    """m <- momentum · m + (1 - momentum) · p, in place, for tensors without gradient."""
    torch._foreach_mul_(copies, momentum)
    torch._foreach_add_(copies, trained, alpha=1 - momentum)


@torch.no_grad()
def copy_weights(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> None:
    """The copies' parameters become those of the trained modules."""
    trained, copies = parameters_of(pairs)
    torch._foreach_copy_(copies, trained)


def parameters_of(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of the trained modules, tied ones once, and in the same order those of their copies."""
    modules = list(pairs)
    return tuple([p.data for pair in modules for p in pair[i].parameters()] for i in range(2))  # type: ignore[return-value]
