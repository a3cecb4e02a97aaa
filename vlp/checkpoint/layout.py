"""What a baseline's checkpoints look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

State = Mapping[str, Tensor]


def unchanged(path: str | Path, state: State, expected: State) -> dict[str, Tensor]:
    """``state`` as it is: the model has no tables that depend on its input's size."""
    return dict(state)


@dataclass(frozen=True)
class CheckpointLayout:
    """What the loader knows of a baseline's checkpoints.

    Attributes:
        title: the baseline, as readers know it.
        recognised_by: prefixes of tensor names that all occur in its files, and in no other model's.
        architecture: the config keys that decide its tensors.
        named_in_hints: config keys that a message names where a file does not fit; the last one counts the layers.
        trunk: prefixes of what every model of it has, whatever its task; the rest is heads and leftovers.
        resized: (path, state, expected) -> state with the tables of another input size brought to the expected one.
    """

    title: str
    recognised_by: tuple[str, ...]
    architecture: tuple[str, ...]
    named_in_hints: tuple[str, ...]
    trunk: tuple[str, ...]
    resized: Callable[[str | Path, State, State], dict[str, Tensor]] = unchanged
