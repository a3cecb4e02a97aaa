"""Several objectives in one pass: their sentences and images go through the fusion together, as one batch.

Officially each objective has a pass of its own. Rows do not see each other, so the numbers are the same; the products
are larger and there are fewer of them, and a weight gets its gradient once. The last layer alone is each objective's
own, since each reads something else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from vlp.nn.padding import Queries


class Pass(NamedTuple):
    """What one objective sends through the fusion, and what it makes of the states that come out."""

    ids: Tensor  # (B, n) of its sentences
    image: Any  # B images as the model's encode_image gives them
    finish: Callable[[Any], dict[str, Any]]  # the last states -> the objective's outputs
    read: Queries | None = None  # the tokens whose last states are read; None = all
    pooled: bool = False  # read are what the poolers need, and nothing else


def outputs_of(passes: Sequence[Pass], fused: Sequence[Any]) -> dict[str, Any]:
    """The outputs of all objectives, in their order."""
    outputs: dict[str, Any] = {}
    for each, states in zip(passes, fused, strict=True):
        outputs |= each.finish(states)
    return outputs
