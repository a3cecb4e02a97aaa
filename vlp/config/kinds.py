"""The kinds of values that configuration keys have, for the annotations of schemas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


class Allowed:
    """What a field allows, in words that its annotation cannot say."""

    def __init__(self, words: str) -> None:
        self.words = words


class Choices:
    """One of ``names``: a ``Literal`` whose words stand in a table somewhere else."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if value not in self.names:
            raise PydanticCustomError("choice", "not among the choices")
        return value


def _printable(value: str) -> str:
    if not value.isprintable():  # control characters, half of a surrogate pair
        raise PydanticCustomError("printable", "not printable")
    return value


def _switch(value: Any) -> Any:
    return bool(value) if type(value) is int and value in (0, 1) else value


Text = Annotated[str, MaxLen(4096), AfterValidator(_printable)]
Name = Annotated[Text, MinLen(1)]
Switch = Annotated[bool, BeforeValidator(_switch)]  # officially 0 and 1 serve, too
Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]
Amount = Annotated[float, Ge(0)]
PositiveAmount = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Le(1)]
