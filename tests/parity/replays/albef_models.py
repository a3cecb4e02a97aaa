"""What the replays of ALBEF's models share: configs and batches of a fixture, models filled as it says.

Source: docs/official/albef.md §11.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.parity.replays import TRAINING_PATH, Fixture

Batch = dict[str, Any]


def config_of(fixture: Fixture, mode: str) -> dict[str, Any]:
    """The fixture's official keys, and ours: the sizes of its vision transformer; the plain mode keeps padding."""
    vision = fixture.arch["vision"]
    sizes = {
        "patch_size": fixture.arch["patch_size"],
        **{name: vision[name] for name in ("width", "depth", "heads")},
    }
    ours = {"pack_text": mode == TRAINING_PATH, "gradient_checkpointing": False, "compile": False}
    return {"vision_config": sizes, **ours, **fixture.config}


def tensor(value: Any) -> Tensor:
    """An input or choice of a fixture; integers as int64."""
    made = torch.as_tensor(value)
    return made if made.is_floating_point() else made.long()


def pretraining_batch(fixture: Fixture) -> Batch:
    """A batch of pre-training under the loader's names."""
    given = {**fixture.inputs, **fixture.choices}
    names = {"image": "image", "text_ids": "input_ids", "text_masks": "attention_mask"}
    names |= {"text_ids_mlm": "masked_ids", "text_labels_mlm": "labels"}
    return {ours: tensor(given[theirs]) for ours, theirs in names.items()}
