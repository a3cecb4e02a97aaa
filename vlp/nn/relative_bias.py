"""A Swin transformer's relative-position bias tables carried to another window, as X-VLM's loader does it.

Source: docs/official/xvlm.md §8.3.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

FEWEST_OFFSETS = 4  # along one axis, for a cubic spline


def interpolate_bias_table(table: Tensor, rows: int) -> Tensor:
    """The table of a window of another size: a cubic spline through offsets that lie the denser the shorter they are.

    Args:
        table: ((2w - 1)², heads), row-major over the offsets between two patches of a w x w window.
        rows: of the new table, (2W - 1)².

    Returns:
        (rows, heads); offsets beyond the source's have the value of its edge. ``table`` itself where it has as many.

    Raises:
        ValueError: a table is no square grid, or the source is smaller than 4 x 4.
    """
    if len(table) == rows:
        return table
    before, after = (_side(count) for count in (len(table), rows))
    if before < FEWEST_OFFSETS:
        raise ValueError(f"a relative-position bias table of {before} x {before} is too small to be interpolated")
    source, target = source_offsets(before, after), np.arange(-(after // 2), after // 2 + 1)
    grids = table.double().cpu().numpy().T.reshape(-1, before, before)
    resized = [RectBivariateSpline(source, source, grid)(target, target) for grid in grids]
    return torch.from_numpy(np.stack(resized, axis=-1)).reshape(rows, -1).to(table)


def source_offsets(before: int, after: int) -> NDArray[np.float64]:
    """Where one axis's ``before`` offsets lie among whole numbers up to after // 2: 0, ±1, ±(1 + q), ±(1 + q + q²) …

    q between 1.01 and 1.5 is the one whose outermost offset is after // 2, to 1e-6.
    """
    count = before // 2
    low, high = 1.01, 1.5
    ratio = (low + high) / 2
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**count) / (1 - ratio) > after // 2:
            high = ratio
        else:
            low = ratio
    positive = np.cumsum(ratio ** np.arange(count))
    return np.concatenate([-positive[::-1], [0.0], positive])


def _side(rows: int) -> int:
    side = math.isqrt(rows)
    if side * side != rows or side % 2 == 0:
        raise ValueError(f"a relative-position bias table of {rows} rows is no square grid of offsets")
    return side
