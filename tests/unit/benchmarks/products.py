"""FLOPs by hand, of matrix products alone: a multiply-add is two."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.counting import count_flops
from benchmarks.epic_steps import EpicSteps

FORWARD, BOTH = 1, 3  # a product's backward is two products: for either factor
NO_PIXELS = 2  # the backward of a product with pixels, or any constant, is that for the weights alone


def linear(rows: int, width_in: int, width_out: int) -> int:
    return 2 * rows * width_in * width_out


def attention(queries: int, keys: int, width: int) -> int:
    """Scores, and the weighted sum of the values."""
    return 2 * (2 * queries * keys * width)


def block(rows: int, width: int, mlp: int) -> int:
    """Self-attention and the MLP."""
    return 4 * linear(rows, width, width) + attention(rows, rows, width) + 2 * linear(rows, width, mlp)


def flops_by_part(steps: EpicSteps, name: str, lengths: Sequence[int]) -> dict[str, int]:
    """As the benchmark counts them, for a batch with sentences of ``lengths`` tokens."""
    variant, batch = steps.variant(name), steps.batch(lengths)
    return count_flops(lambda: variant.step(batch), variant.parts)
