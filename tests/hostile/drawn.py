"""Inputs that are drawn: a valid one in which something was changed, and how the code that reads it may end."""

from __future__ import annotations

import copy
import json
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from hypothesis import event
from hypothesis import strategies as st

from tests.hostile.harness import FOREIGN
from vlp.checkpoint.errors import WeightsError
from vlp.config.schema import ConfigError
from vlp.data.errors import DataError

BOUND = 20  # seconds after which an input is a hang
# What ends a run in one line (vlp.training.run.or_exit).
TOLD = (DataError, WeightsError, ConfigError, ValueError, OSError)
ODD: list[Any] = [None, True, False, 0, -1, 3, 2**31, -(2**63), 10**40, 0.5, -0.5, 1e300, math.nan, math.inf, -math.inf]
ODD += ["", " ", "w1", "...", "0", "nan", "None", "../x", "/etc/passwd", "a" * 70_000, "日本", "\x00", "\ud800", "\n"]
ODD += [[], {}, [[]], [0], [None], ["w1"], ["w1", 3], {"a": 1}, [1, 2, 3, 4], [0.0, 0.0, 1e9, 1e9], [math.nan] * 4]


class Drawn(NamedTuple):
    """An input.

    Attributes:
        read: everything that a run or ``check`` reads of it.
        broken: whether it must be refused; None: either is right.
        names: of which a refusal has one.
    """

    read: Callable[[], object]
    broken: bool | None
    names: Sequence[str]


def told(drawn: Drawn) -> str:
    """What reading the input ends with: one clear line, or nothing where it was accepted and may be."""
    try:
        with in_time():
            drawn.read()
    except TOLD as error:
        said = error.plain if isinstance(error, DataError) else str(error)
        assert any(name in said for name in drawn.names), said
        assert not any(words in said for words in FOREIGN), said
        assert len(said) < 2000, said
        assert drawn.broken is not False, f"refused, but it is valid: {said}"
        event("refused")
        return said
    assert not drawn.broken, "accepted in silence"
    event("accepted")
    return ""


@contextmanager
def in_time() -> Iterator[None]:
    """Fail where the block takes longer than :data:`BOUND`."""

    def late(*_: object) -> None:
        raise AssertionError(f"takes more than {BOUND} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(BOUND)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@st.composite
def changed(draw: st.DrawFn, tree: Any, odd: Sequence[Any] = ODD) -> Any:
    """A tree of lists and dictionaries of which one or two places are left out, replaced, repeated or emptied."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 2))):
        if not (places := list(_places(tree))):
            return draw(st.sampled_from(odd))
        holder, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(("drop", "replace", "replace", "replace", "repeat", "empty")))
        if how == "drop":
            del holder[key]
        elif how == "repeat" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif how == "empty" and isinstance(holder[key], str | list | dict):
            holder[key] = type(holder[key])()
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(odd)))
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that were cut, flipped, zeroed, shifted, repeated, encoded otherwise, or that are none."""
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    end = min(at + draw(st.integers(1, 4096)), len(content))
    ways: list[Callable[[], bytes]] = [
        lambda: content[:at],
        lambda: content[:at] + bytes([content[at] ^ 1 << draw(st.integers(0, 7))]) + content[at + 1 :],
        lambda: content[:at] + bytes(end - at) + content[end:],
        lambda: content[:at] + content[at:end] * 2 + content[end:],
        lambda: content[:at] + draw(st.binary(min_size=1, max_size=9)) + content[at:],
        lambda: content[at:],
        lambda: content.decode("latin-1").encode("utf-16"),
        lambda: b"\xef\xbb\xbf" + content,
        lambda: b"",
    ]
    return draw(st.sampled_from(ways))() if content else b"\xff"


@st.composite
def broken_json(draw: st.DrawFn, tree: Any, dumps: Callable[[Any], str] = json.dumps) -> tuple[Any, bytes]:
    """A changed tree and its bytes; for one in five these are damaged and the tree is None."""
    made = draw(changed(tree))
    content = dumps(made).encode()
    return (None, draw(damaged(content))) if draw(st.integers(0, 4)) == 0 else (made, content)
