"""METER's and ViLT's parameter groups, chosen by substrings of the OFFICIAL parameter names.

Source: docs/official/meter.md §6, docs/official/vilt.md §6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

NO_DECAY = (
    "bias",
    "LayerNorm.bias",
    "LayerNorm.weight",
    "norm.bias",
    "norm.weight",
    "norm1.bias",
    "norm1.weight",
    "norm2.bias",
    "norm2.weight",
)


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    learning_rate: float,
    weight_decay: float,
    multiplied: Sequence[tuple[Sequence[str], float]],
) -> list[dict[str, Any]]:
    """Groups in the official order: the rest, then each of ``multiplied``; each with decay, then without.

    Args:
        named_parameters: pairs of official name and parameter; every parameter lands in exactly one group.
        learning_rate: of the rest.
        multiplied: substrings that place a name, and the factor of its learning rate. METER: heads, cross-modal
            layers (six groups); ViLT: heads (four).

    Raises:
        ValueError: a name matches substrings of two groups.
    """
    factors = [1.0, *(factor for _, factor in multiplied)]
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": learning_rate * factor, "weight_decay": decay}
        for factor in factors
        for decay in (weight_decay, 0.0)
    ]
    for name, parameter in named_parameters:
        places = [i for i, (parts, _) in enumerate(multiplied, start=1) if any(part in name for part in parts)]
        if len(places) > 1:
            raise ValueError(f"parameter {name} matches substrings of two groups; rename it")
        place = places[0] if places else 0
        without_decay = any(part in name for part in NO_DECAY)
        groups[2 * place + without_decay]["params"].append(parameter)
    return groups
