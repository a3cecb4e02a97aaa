"""Pickles of data sets: plain values are read, nothing else, and no code of a file ever runs."""

from __future__ import annotations

import copyreg
import os
import pickle
import pickletools
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlp.data.errors import DataError
from vlp.data.raw.plain_pickle import read_plain_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=5)
        | st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=40,
)


def file(folder: Path, content: bytes) -> Path:
    path = folder / "refs(unc).p"
    path.write_bytes(content)
    return path


def refused(folder: Path, content: bytes) -> str:
    """The one line that the file is refused with; it names the file."""
    path = file(folder, content)
    with pytest.raises(DataError) as caught:
        read_plain_pickle(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 600
    return message


@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), optimised=st.booleans())
def test_plain_values_are_read_in_every_protocol(
    value: Any, protocol: int, optimised: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = pickle.dumps(value, protocol)
    path = file(tmp_path_factory.getbasetemp(), pickletools.optimize(content) if optimised else content)
    assert read_plain_pickle(path) == value


def test_what_python_2_wrote(tmp_path: Path) -> None:
    """Byte strings, long integers and booleans as numbers, as cPickle wrote them in its protocols 0 and 2."""
    text = b"(dp1\nS'sent'\np2\nS'a cat'\np3\nsS'n'\np4\nL3L\nsS'yes'\nI01\ns."
    assert read_plain_pickle(file(tmp_path, text)) == {"sent": "a cat", "n": 3, "yes": True}
    binary = b"\x80\x02}q\x01(U\x04sentq\x02U\x05caf\xc3\xa9U\x01nK\x03u."
    assert read_plain_pickle(file(tmp_path, binary)) == {"sent": "café", "n": 3}


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, os.mkdir, exec, eval, subprocess.check_call, getattr])
def test_a_call_never_runs(function: Callable[..., object], protocol: int, tmp_path: Path) -> None:
    made = tmp_path / "made"
    argument = {os.system: f"mkdir {made}", subprocess.check_call: ["mkdir", str(made)], os.mkdir: str(made)}.get(
        function, f"import os; os.mkdir({str(made)!r})"
    )
    message = refused(tmp_path, pickle.dumps([{"ref_id": 1}, Evil(function, argument)], protocol))
    assert "can run any code" in message and not made.exists()
    pickle.loads(file(tmp_path, pickle.dumps(Evil(os.mkdir, str(made)))).read_bytes())
    assert made.exists()  # the weapon is sharp


class Stateful:
    """Has a state that is set by a function of its own."""

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("ran")

    def __getstate__(self) -> Any:
        return {"a": 1}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [Stateful(), OrderedDict(a=1), Decimal(1), {1, 2}, frozenset({1}), complex(1, 2), np.float64(1), print, int],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_are_refused(value: Any, protocol: int, tmp_path: Path) -> None:
    assert "holds more than lists, dictionaries, strings and numbers" in refused(
        tmp_path, pickle.dumps([value], protocol)
    )


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
        b"Pname\n.",  # PERSID
        b"K\x01Q.",  # BINPERSID
        b"\x82\x01.",  # EXT1
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"]}b.",  # BUILD
        b"C\x01a.",  # bytes
    ],
)
def test_every_instruction_that_reaches_out_is_refused(content: bytes, tmp_path: Path) -> None:
    assert "can run any code" in refused(tmp_path, content)


def test_a_registered_extension_is_refused_though_it_was_loaded_before(tmp_path: Path) -> None:
    copyreg.add_extension("os", "getcwd", 0x71)
    try:
        content = pickle.dumps(os.getcwd, protocol=2) if os.getcwd.__module__ == "os" else b"\x80\x02\x82\x71."
        pickle.loads(b"\x80\x02\x82\x71.")
        assert "EXT1" in refused(tmp_path, b"\x80\x02\x82\x71.") and content
    finally:
        copyreg.remove_extension("os", "getcwd", 0x71)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\x80\x04", b"\x80\xff.", b"0.", b"h\x05.", b"]K\x01e.", b"}(K\x01u.", b"}]K\x01s.",
     b"L" + b"9" * 5000 + b"L\n.", b"X\xff\xff\xff\x7fab.", b"\x95" + b"\xff" * 8 + b".", b"]" * 9],
)  # fmt: skip
def test_what_is_no_pickle_is_refused(content: bytes, tmp_path: Path) -> None:
    assert "no whole pickle" in refused(tmp_path, content)


@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = file(tmp_path_factory.getbasetemp(), content)
    try:
        read_plain_pickle(path)
    except DataError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        b"I1\np2147483647\n.",
        b"\x80\x02)" + b"\x85" * 200_000 + b"\x94}h\x00K\x01s.",
    ],
    ids=["memo", "text memo", "nested key"],
)
def test_a_bomb_is_refused_before_it_goes_off(content: bytes, tmp_path: Path) -> None:
    """A memo of 2^31 places; a key of tuples in tuples, whose hash overflows the stack: in a process that may die."""
    path = file(tmp_path, content)
    code = f"from pathlib import Path; from vlp.data.raw.plain_pickle import *; read_plain_pickle(Path({str(path)!r}))"
    limited = f"ulimit -v 4000000; exec {sys.executable} -c '{code.replace(chr(39), chr(34))}'"
    ended = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "is no pickle of a data set" in ended.stderr


def test_a_missing_file_and_one_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found"):
        read_plain_pickle(tmp_path / "absent.p")
    os.mkfifo(tmp_path / "fifo.p")
    with pytest.raises(DataError, match="not a regular file"):
        read_plain_pickle(tmp_path / "fifo.p")
