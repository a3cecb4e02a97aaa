"""A configuration's schema: type, range and meaning of every key and what keys ask of each other, declared once.

A baseline's schema is a class of fields; messages, defaults and the documents' key tables come from it. Nothing here
imports torch: what only reads a configuration starts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from vlp.config.messages import messages


class ConfigError(ValueError):
    """What is wrong with a configuration, a line for every key."""


class Schema(BaseModel):
    """Base of all schemas: unknown keys, values of other types, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def relations(self) -> Iterator[str]:
        """What keys that are fine by themselves contradict in each other, a line each that names them."""
        yield from ()

    @model_validator(mode="after")
    def _check_relations(self) -> Schema:
        if found := list(self.relations()):
            raise ValueError("\n".join(found))
        return self


S = TypeVar("S", bound=Schema)


def key(default: Any, says: str) -> Any:
    """A field: its default, and its meaning for the documents."""
    return Field(default, description=says)


def with_defaults(**values: Any) -> Callable[[type[S]], type[S]]:
    """Of a schema: the same keys, of which those in ``values`` have other defaults."""

    def changed(schema: type[S]) -> type[S]:
        fields: dict[str, Any] = {}
        for name, value in values.items():
            field = copy(schema.model_fields[name])
            field.default = value
            fields[name] = (field.annotation, field)
        return extended(schema, (schema,), fields)

    return changed


def extended(schema: type[S], bases: tuple[type[Schema], ...], fields: Mapping[str, Any]) -> type[S]:
    """``schema`` under its own name with further ``bases`` or ``fields``, each (type, field)."""
    options: dict[str, Any] = {"__base__": bases, "__module__": schema.__module__, "__doc__": schema.__doc__}
    return create_model(schema.__name__, **options, **fields)


def defaults(schema: type[Schema]) -> dict[str, Any]:
    """Every key with its default, as plain values."""
    return schema.model_construct().model_dump(warnings=False)


def check(schema: type[Schema], values: Mapping[str, Any]) -> None:
    """Check a whole configuration.

    Raises:
        ConfigError: a line for each wrong key: the key, its value, what is allowed and the nearest name; or, where all
            keys are fine by themselves, a line for each relation that does not hold.
    """
    values = _plain(values)
    try:
        schema.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(messages(schema.model_fields, values, error))) from None


def check_alone(schema: type[Schema], values: Mapping[str, Any]) -> None:
    """Check some keys of a configuration, without what they ask of others.

    Raises:
        ConfigError: a line for each wrong key.
    """
    values = _plain(values)
    try:
        schema.model_validate({**defaults(schema), **values})
    except ValidationError as error:
        if any(found["loc"] for found in error.errors(include_url=False)):  # relations have none
            raise ConfigError("\n".join(messages(schema.model_fields, values, error))) from None


def _plain(value: Any) -> Any:
    """Sacred hands over subclasses of dict and list, and a tuple may stand for a list."""
    if isinstance(value, Mapping):
        # A name that is no UTF-8 text is no key's name; pydantic cannot look it up.
        return {str(name).encode(errors="backslashreplace").decode(): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
