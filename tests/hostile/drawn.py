"""Inputs that are drawn: a valid one in which something was changed, and how what reads it may end."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.hostile.harness import FOREIGN
from tests.hostile.test_any_yaml_value import VALUES
from tests.hostile.test_bytes import WAYS, in_time
from vlp.checkpoint.errors import WeightsError
from vlp.data.errors import DataError

BOUND = 20  # seconds after which an input is a hang
# What ends a run in one line (vlp.training.run.or_exit); a ConfigError is a ValueError.
TOLD = (DataError, WeightsError, ValueError, OSError)
OF_DATA: list[Any] = [
    "w1",
    "...",
    "w1 w2",
    "../x",
    "1.png",
    ["w1"],
    ["w1", 3],
    [1, 2, 3, 4],
    [0, 0, 1e9, 9],
    [math.nan] * 4,
]
ANYTHING = st.sampled_from(OF_DATA) | VALUES


class Drawn(NamedTuple):
    """An input.

    Attributes:
        read: everything that a run or ``check`` reads of it, compared with what it holds; whether something was left
            out by name.
        broken: whether it must be refused.
        names: of which a refusal has one.
    """

    read: Callable[[], bool]
    broken: bool
    names: Sequence[str]


def told(drawn: Drawn) -> str:
    """How reading the input ends: "refused" in one clear message or by rows that are left out, or "accepted"."""
    try:
        with in_time(BOUND):
            refused = drawn.read()
    except TOLD as error:
        said = error.plain if isinstance(error, DataError) else str(error)
        assert any(name in said for name in drawn.names), said
        assert not any(words in said for words in FOREIGN), said
        assert len(said) < 3000, said
        refused = True
    assert refused or not drawn.broken, "accepted in silence"
    return "refused" if refused else "accepted"


@st.composite
def changed(draw: st.DrawFn, tree: Any, values: st.SearchStrategy[Any] = ANYTHING) -> Any:
    """A tree of lists and dictionaries of which one or two places are left out, replaced, repeated or emptied."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 2))):
        if not (places := list(_places(tree))):
            return draw(values)
        holder, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(("drop", "replace", "replace", "alike", "alike", "repeat", "empty")))
        if how == "drop":
            del holder[key]
        elif how == "repeat" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif how == "alike" and isinstance(holder[key], bool | int | float | str):
            holder[key] = draw(_alike(holder[key]))
        elif how == "empty" and isinstance(holder[key], str | list | dict):
            holder[key] = type(holder[key])()
        else:
            holder[key] = copy.deepcopy(draw(values))
    return tree


def _alike(value: bool | int | float | str) -> st.SearchStrategy[Any]:
    """Other values of one type."""
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, int):
        return st.integers(min(0, 2 * value), max(2 * value, 2))
    if isinstance(value, float):
        return st.sampled_from((value / 2, value * 2, -value))
    return st.text(max_size=9) | st.just(f"{value} a")


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


@st.composite
def perhaps_damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes; for one in five they are cut, flipped, zeroed or shifted somewhere."""
    if not content or draw(st.integers(0, 4)):
        return content
    damaged = bytearray(content)
    WAYS[draw(st.sampled_from(sorted(WAYS)))](damaged, random.Random(draw(st.integers(0, 2**32))))
    return bytes(damaged)


def loaded(path: Path) -> Any:
    """What Python reads in a JSON file; None if that is nothing."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
