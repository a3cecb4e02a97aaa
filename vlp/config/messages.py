"""What pydantic found wrong with a configuration, as one line a key: the key, its value, what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from vlp.config.describe import choices, describe, describe_item
from vlp.config.nearest import did_you_mean
from vlp.config.plain import shortened

Fields = Mapping[str, FieldInfo]
Errors = list[Mapping[str, Any]]


def messages(fields: Fields, values: Mapping[str, Any], error: ValidationError) -> Iterator[str]:
    """The lines for the ``values`` of a schema's ``fields``."""
    by_key: dict[Any, Errors] = {}
    for found in error.errors(include_url=False):
        by_key.setdefault(found["loc"][0] if found["loc"] else None, []).append(found)
    for name, errors in by_key.items():
        # A relation, or another package's block, names its keys itself.
        if said := [found["ctx"]["error"] for found in errors if found["type"] == "value_error"]:
            yield str(said[0])
        elif name not in fields:
            yield f"unknown config key {name!r}{did_you_mean(name, fields)}"
        elif errors[0]["type"] == "missing":
            yield f"{name} is missing: expected {describe(fields[name])}"
        else:
            yield _wrong_value(name, fields[name], values[name], errors)


def _wrong_value(name: str, field: FieldInfo, value: Any, errors: Errors) -> str:
    """A union's members complain one by one: the one that knows the key inside says it best."""
    inner = _inner_fields(field)
    for found in errors if isinstance(value, Mapping) else ():
        path = [str(part) for part in found["loc"]]
        last = next((part for part in reversed(path) if part in inner), path[-1])  # a union's members come behind it
        if found["type"] == "extra_forbidden":
            return f"unknown config key {f'{name}.{last}'!r}{did_you_mean(last, inner, f'{name}.')}"
        if last in inner and last in value:
            return f"{name}.{last}={_repeated(value[last])}: expected {describe(inner[last])}"
        if get_origin(field.annotation) is dict and last in value:
            return f"{name}.{last}={_repeated(value[last])}: expected {describe_item(field)}"
    wrong = value if isinstance(value, str) else next(_wrong_items(value, errors), None)
    return f"{name}={_repeated(value)}: expected {describe(field)}{did_you_mean(wrong, choices(field), always=False)}"


def _repeated(value: Any) -> str:
    return shortened(repr(value), 300)


def _inner_fields(field: FieldInfo) -> dict[str, FieldInfo]:
    """The fields of the schemas that a key's value may be."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return {name: each for kind in kinds for name, each in getattr(kind, "__pydantic_fields__", {}).items()}


def _wrong_items(value: Any, errors: Errors) -> Iterator[Any]:
    for found in errors:
        if isinstance(value, list) and len(found["loc"]) > 1 and isinstance(found["loc"][-1], int):
            yield value[found["loc"][-1]]
