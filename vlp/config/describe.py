"""What a field of a schema allows, in words."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from vlp.config.kinds import Allowed, Choices

NAMES: dict[Any, str] = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


def describe(field: FieldInfo) -> str:
    """Such as ``a whole number, at least 1, or None``."""
    return _in_words(field.annotation, field.metadata)


def describe_item(field: FieldInfo) -> str:
    """The same of a value in a dict of one kind of values."""
    return _in_words(get_args(field.annotation)[1], ())


def choices(field: FieldInfo) -> Iterator[str]:
    """The words that a field's value may be, or an item of it."""
    yield from _words(field.annotation, field.metadata)


def _in_words(kind: Any, metadata: Iterable[Any]) -> str:
    metadata = list(metadata)
    if said := [each.words for each in metadata if isinstance(each, Allowed)]:
        return said[0]
    if names := [each.names for each in metadata if isinstance(each, Choices)]:
        return _one_of(names[0])
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _in_words(args[0], [*args[1:], *metadata])
    if origin is Literal:
        return _one_of(args)
    if origin in (Union, types.UnionType):
        return ", or ".join(_in_words(each, ()) for each in args)
    if kind is types.NoneType:
        return "None"
    if origin is list:
        return f"{_bounded('a list', metadata)}, of {_in_words(args[0], ())}"
    if origin is dict:
        return f"{_in_words(args[1], ())}, for each key"
    if hasattr(kind, "__pydantic_fields__"):
        return f"the keys {', '.join(kind.__pydantic_fields__)}"
    return _bounded(NAMES[kind], metadata)


def _one_of(names: Iterable[Any]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last


BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


def _bounded(words: str, metadata: Iterable[Any]) -> str:
    parts = [words]
    for each in metadata:
        parts += [text.format(getattr(each, bound)) for bound, text in BOUNDS.items() if hasattr(each, bound)]
        if getattr(each, "min_length", None):
            parts.append("not empty")
    return ", ".join(parts)


def _words(kind: Any, metadata: Iterable[Any]) -> Iterator[str]:
    for each in metadata:
        if isinstance(each, Choices):
            yield from each.names
    args = get_args(kind)
    if get_origin(kind) is Annotated:
        yield from _words(args[0], args[1:])
    elif get_origin(kind) is Literal:
        yield from (each for each in args if isinstance(each, str))
    else:
        for each in args:
            yield from _words(each, ())
