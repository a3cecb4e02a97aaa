"""The replays: how the project's public classes compute what a fixture stores.

A replay is a function registered for one (baseline, kind), the `baseline` and `replay` of a fixture's JSON. It gets
the fixture and the mode and yields (array name, full computed array) pairs, NumPy or torch; the framework applies the
slice, compares, and counts every output array that was not yielded as a failure. Names that the fixture does not store
are ignored, so a replay may yield all that it computes. To add one, write the module `<baseline>_<kind>.py` in this
package; it is found by its name, and imported only when a fixture asks for it:

    @replay("meter", "pretrain", modes=(PLAIN, TRAINING_PATH))
    def pretrain(fixture: Fixture, mode: str) -> Iterator[tuple[str, np.ndarray]]:
        model = build(fixture.arch)
        model.load_state_dict(fixture.fill(model.state_dict()))
        yield "mlm_loss", ...

A fixture may lack pieces: asking it for an input, a choice or a key that it does not have raises Lacking. What is left
of the replay is then not compared, and the runner names the piece. So that the rest goes on, put what needs it into a
function of its own with the decorator `piece`, or yield a function in the place of the value: it is called only if the
fixture stores the array, and may raise Lacking for this array alone; `once` makes such a function of what several
arrays need. What changes the model is called at once, in a piece. A batch is `Given`, too: with the pieces that are
there, it raises Lacking where a step asks for another; `whole` asks for all of them, before a model takes the batch.

Modes are separate runs with a line of their own: PLAIN must produce every output array, TRAINING_PATH those of the
levels loss, gradient, logit and trajectory (others are ignored there).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Generator, Iterator
from functools import cache, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from tests.parity.fixture import PLAIN, TRAINING_PATH, Fixture, Given, Lacking

Value = np.ndarray | Tensor
Outputs = Iterator[tuple[str, Value | Callable[[], Value] | Lacking]]
Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")

__all__ = [
    "PLAIN",
    "TRAINING_PATH",
    "Fixture",
    "Given",
    "Outputs",
    "Replay",
    "Value",
    "find",
    "once",
    "piece",
    "replay",
]


class Replay(NamedTuple):
    """A registered replay and the modes that it runs in."""

    run: Callable[[Fixture, str], Outputs]
    modes: tuple[str, ...]


_REPLAYS: dict[tuple[str, str], Replay] = {}


def replay(
    baseline: str, kind: str, modes: tuple[str, ...] = (PLAIN,)
) -> Callable[[Callable[[Fixture, str], Outputs]], Callable[[Fixture, str], Outputs]]:
    """Register the decorated function for the fixtures of `baseline` whose `replay` is `kind`.

    Raises:
        ValueError: this pair has a replay already.
    """

    def register(run: Callable[[Fixture, str], Outputs]) -> Callable[[Fixture, str], Outputs]:
        if (baseline, kind) in _REPLAYS:
            raise ValueError(f"two replays for {baseline} {kind}")
        _REPLAYS[baseline, kind] = Replay(run, modes)
        return run

    return register


def piece(outputs: Callable[Arguments, Outputs]) -> Callable[Arguments, Generator[tuple[str, Any], None, None]]:
    """Let a part of a replay end alone where the fixture lacks what it asks for: it yields the exception instead."""

    @wraps(outputs)
    def guarded(*arguments: Arguments.args, **options: Arguments.kwargs) -> Generator[tuple[str, Any], None, None]:
        try:
            yield from outputs(*arguments, **options)
        except Lacking as absent:
            yield "", absent

    return guarded


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """What ``make`` makes, without gradients: made where it is first asked for, and not if nothing asks."""
    return cache(torch.no_grad()(make))


def find(baseline: str, kind: str) -> Replay | None:
    """The replay of (baseline, kind), or None where there is none yet.

    Raises:
        KeyError: its module exists but registers no such replay.
    """
    module = f"{baseline}_{kind}"
    if module not in {found.name for found in pkgutil.iter_modules(__path__)}:
        return None
    importlib.import_module(f"{__name__}.{module}")
    return _REPLAYS[baseline, kind]
