"""Pickles of published data sets, read without running any of their code: containers, strings and numbers alone.

A pickle is a program: a file may name any function of any module and call it. Here the instructions are looked at
before one of them runs, and those that reach for a class, a function or another object are not among the allowed ones.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, NoReturn

from vlp.data.errors import DataError
from vlp.data.raw.source import require_file

_STRUCTURE = "PROTO FRAME STOP MARK POP POP_MARK DUP"
_MEMO_READ = "GET BINGET LONG_BINGET"
_MEMO_WRITE = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_CONTAINERS = "EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS"
_NUMBERS = "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT"
_STRINGS = "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8"
_ALLOWED = _MEMO_WRITE | {"MEMOIZE"} | {
    name for names in (_STRUCTURE, _MEMO_READ, _CONTAINERS, _NUMBERS, _STRINGS) for name in names.split()
}  # fmt: skip
_MAX_TUPLES = 10_000  # as a key, a tuple in a tuple in a tuple … would overflow the interpreter's stack
_BROKEN = (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError, OverflowError)


class _PlainUnpickler(pickle.Unpickler):
    """The second lock: whatever the instructions are, no name is looked up."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it names a persistent object")


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of lists, tuples, dictionaries, strings, numbers, booleans and None; Python 2's are read as well.

    Raises:
        DataError: the file is missing, cut off or no pickle, or holds anything else. Nothing of it has run then.
    """
    require_file(path)
    content = path.read_bytes()
    _require_plain(content, path)
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="utf-8", errors="replace").load()
    except _BROKEN as error:
        raise DataError(f"{path} is no whole pickle ({error}); download it again") from error


def _require_plain(content: bytes, path: Path) -> None:
    """Raise a DataError if one instruction of a pickle is not allowed, or would fill the memory with nothing."""
    tuples = 0
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            tuples += opcode.name.startswith("TUPLE")
            if opcode.name not in _ALLOWED:
                what = opcode.name if argument is None else f"{opcode.name} {str(argument)[:80]!r}"
                raise DataError(
                    f"{path} holds more than lists, dictionaries, strings and numbers ({what}): such a pickle can run "
                    "any code and is not read; get the file from where the data set is published"
                )
            if tuples > _MAX_TUPLES or (opcode.name in _MEMO_WRITE and argument is not None and argument > number + 1):
                raise DataError(f"{path} is no pickle of a data set ({opcode.name} at {number}); download it again")
    except _BROKEN as error:
        raise DataError(f"{path} is no whole pickle ({error}); download it again") from error
