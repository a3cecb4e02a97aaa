"""METER's position tables at checkpoint load, and recalls from score matrices.

Source: docs/official/meter.md §4.2, §4.3, §7.1.
"""

from __future__ import annotations

import numpy as np
import torch

from tests.parity.replays import Fixture, Outputs, replay
from vlp.evaluation.recall import recalls
from vlp.nn.positions import interpolate_clip_positions, interpolate_swin_bias


@replay("meter", "positions_recall")
def positions_recall(fixture: Fixture, mode: str) -> Outputs:
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in fixture.inputs.items()}
    for name in fixture.required(mode):
        args = dict(fixture.arrays[name]["args"])
        function = args.pop("function")
        if function == "interpolate_clip_positions":
            yield name, interpolate_clip_positions(tensors[args.pop("input")], **args)
        elif function == "interpolate_swin_bias":
            yield name, interpolate_swin_bias(tensors[args.pop("input")], **args)
        elif function == "recall":
            yield name, np.array(recalls(tensors[args["scores"]], tensors[args["caption_image"]]))
