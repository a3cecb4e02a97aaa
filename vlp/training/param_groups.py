"""METER's and ViLT's six parameter groups, chosen by substrings of the OFFICIAL parameter names (SPEC §6)."""

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


def six_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    learning_rate: float,
    weight_decay: float,
    head_names: Sequence[str],
    lr_mult_head: float,
    cross_modal_names: Sequence[str],
    lr_mult_cross_modal: float,
) -> list[dict[str, Any]]:
    """Groups in the official order: rest, head, cross-modal; each with decay, then without.

    Args:
        named_parameters: pairs of official name and parameter; every parameter lands in exactly one group.
        learning_rate: of the rest; head and cross-modal groups multiply it.
        head_names, cross_modal_names: substrings that place a name.

    Raises:
        ValueError: a name matches both a head and a cross-modal substring.
    """
    multipliers = {"rest": 1.0, "head": lr_mult_head, "cross_modal": lr_mult_cross_modal}
    groups = {
        (kind, decay): {"params": [], "lr": learning_rate * factor, "weight_decay": weight_decay if decay else 0.0}
        for kind, factor in multipliers.items()
        for decay in (True, False)
    }
    for name, parameter in named_parameters:
        is_head = any(part in name for part in head_names)
        is_cross = any(part in name for part in cross_modal_names)
        if is_head and is_cross:
            raise ValueError(f"parameter {name} matches both a head name and a cross-modal name; rename it")
        kind = "head" if is_head else "cross_modal" if is_cross else "rest"
        decay = not any(part in name for part in NO_DECAY)
        params = groups[kind, decay]["params"]
        assert isinstance(params, list)
        params.append(parameter)
    return list(groups.values())
