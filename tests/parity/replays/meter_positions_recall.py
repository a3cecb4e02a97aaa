"""METER's position tables at checkpoint load, and recalls from score matrices.

Source: docs/official/meter.md §4.2, §4.3, §7.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from tests.parity.replays import Fixture, Outputs, replay
from vlp.evaluation.recall import recalls
from vlp.nn.positions import interpolate_clip_positions, interpolate_swin_bias


@replay("meter", "positions_recall")
def positions_recall(fixture: Fixture, mode: str) -> Outputs:
    def of(function: Callable[..., Any], *names: str, **args: Any) -> np.ndarray:
        return np.asarray(function(*(torch.from_numpy(np.asarray(fixture.inputs[name])) for name in names), **args))

    for name in fixture.required(mode):
        args = dict(fixture.arrays[name]["args"])
        function = args.pop("function")
        if function == "interpolate_clip_positions":
            yield name, partial(of, interpolate_clip_positions, args.pop("input"), **args)
        elif function == "interpolate_swin_bias":
            yield name, partial(of, interpolate_swin_bias, args.pop("input"), **args)
        elif function == "recall":
            yield name, partial(of, recalls, args["scores"], args["caption_image"])
