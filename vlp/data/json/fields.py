"""What the rows of the official JSON lists hold, checked field by field.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any, NamedTuple

# A value of a row -> what is wrong with it, None if nothing.
Check = Callable[[Any], str | None]
Row = dict[str, Any]


class RowKind(NamedTuple):
    """The fields that a row of one kind of list needs; others may be there and are not read.

    Attributes:
        name: of the kind, for messages.
        fields: name -> check.
        rule: what is wrong with a row whose fields are right, each by itself.
        identity: what no two rows may share; None for a row without it.
    """

    name: str
    fields: Mapping[str, Check]
    rule: Callable[[Row], str | None] | None = None
    identity: Callable[[Row], Hashable | None] | None = None

    def complaint(self, row: Any) -> str | None:
        """What is wrong with a row, None if nothing."""
        if not isinstance(row, dict):
            return f"is {kind_of(row)}, not an object with {', '.join(self.fields)}"
        for field, check in self.fields.items():
            if field not in row:
                return f"lacks {field!r} ({self.name} rows have {', '.join(self.fields)})"
            if wrong := check(row[field]):
                return f"{field!r} {wrong}"
        return self.rule(row) if self.rule else None


def text(value: Any) -> str | None:
    """A string that a tokenizer can read."""
    if not isinstance(value, str):
        return f"must be a string, not {kind_of(value)}"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair, which is no text"
    return None


def texts(value: Any) -> str | None:
    """A list of at least one string."""
    if not isinstance(value, list):
        return f"must be a list of strings, not {kind_of(value)}"
    if not value:
        return "is an empty list, at least one string is needed"
    return next((f"holds a string that {wrong}" for wrong in map(text, value) if wrong), None)


def text_or_texts(value: Any) -> str | None:
    """A string, or a list of at least one."""
    if isinstance(value, str):
        return text(value)
    return texts(value) if isinstance(value, list) else f"must be a string or a list of them, not {kind_of(value)}"


def file_name(value: Any) -> str | None:
    """A path or a name, not empty."""
    if wrong := text(value):
        return wrong
    return "is no file name" if not value or "\0" in value else None


def two_file_names(value: Any) -> str | None:
    """The left and the right image."""
    if not isinstance(value, list) or len(value) != 2:
        return f"must be a list of two file names, left and right, not {kind_of(value)}"
    return next(filter(None, map(file_name, value)), None)


def whole_number(value: Any) -> str | None:
    """An integer."""
    return None if isinstance(value, int) and not isinstance(value, bool) else _not("an integer", value)


def identifier(value: Any) -> str | None:
    """An integer or a string."""
    return None if isinstance(value, int | str) and not isinstance(value, bool) else _not("an integer or string", value)


def one_of(choices: Collection[str]) -> Check:
    """One of some strings."""

    def check(value: Any) -> str | None:
        if isinstance(value, str) and value in choices:
            return None
        shown = repr(value)[:40] if isinstance(value, str) else f"the {kind_of(value)} {value!r}"[:60]
        return f"must be {' or '.join(repr(choice) for choice in choices)}, not {shown}"

    return check


def kind_of(value: Any) -> str:
    """The JSON name of a value's type, for messages."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "list", dict: "object"}
    return names[type(value)] if not isinstance(value, list) else f"list of {len(value)}"


def _not(wanted: str, value: Any) -> str:
    return f"must be {wanted}, not {kind_of(value)}"
