"""The keys of several schemas as one table in Markdown: a column for each baseline, or one for all scripts of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from vlp.config.describe import describe
from vlp.config.schema import Schema, defaults


def key_table(schemas: Mapping[str, type[Schema]]) -> Iterator[str]:
    """Rows of every key, those of all baselines first: its default in each, what is allowed, what it means."""
    plain = {title: defaults(schema) for title, schema in schemas.items()}
    names = dict.fromkeys(name for schema in schemas.values() for name in schema.model_fields)
    yield f"| key | {' | '.join(schemas)} | allowed | meaning |"
    yield f"| --- | {'--- | ' * len(schemas)}--- | --- |"
    for name in sorted(names, key=lambda name: sum(name not in each for each in plain.values())):
        fields = {title: schema.model_fields[name] for title, schema in schemas.items() if name in schema.model_fields}
        cells = [_default(plain[title], name) for title in schemas]
        allowed = "; ".join(_differing({title: describe(field) for title, field in fields.items()}))
        meaning = "; ".join(_differing({title: str(field.description) for title, field in fields.items()}))
        yield f"| `{name}` | {' | '.join(cells)} | {allowed} | {meaning} |"


def script_table(schemas: Mapping[str, type[Schema]]) -> Iterator[str]:
    """Rows of every key of a baseline's scripts, those of all scripts first, keys of a block by a dot.

    A default is followed by the scripts that have it, where not all do.
    """
    fields = {name: dict(_fields(schema, defaults(schema))) for name, schema in schemas.items()}
    keys = dict.fromkeys(key for each in fields.values() for key in each)
    yield from ("| key | default | allowed | meaning |", "| --- | --- | --- | --- |")
    for name in sorted(keys, key=lambda key: sum(key not in each for each in fields.values())):
        found = {script: each[name] for script, each in fields.items() if name in each}
        by_default: dict[str, list[str]] = {}
        for script, (_, value) in found.items():
            by_default.setdefault(_shown(name, value), []).append(script)
        everywhere = len(by_default) == 1 and len(found) == len(schemas)
        default = "; ".join(
            value if everywhere else f"{value} ({', '.join(scripts)})" for value, scripts in by_default.items()
        )
        described = {script: describe(field) for script, (field, _) in found.items()}
        meanings = {script: str(field.description) for script, (field, _) in found.items()}
        yield f"| `{name}` | {default} | {_grouped(described)} | {_grouped(meanings)} |"


def _fields(schema: type[BaseModel], plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its field and its default; those of a block in its place."""
    for name, field in schema.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Schema):
            yield from _fields(kind, plain[name], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", (field, plain[name])


def _grouped(texts: Mapping[str, str]) -> str:
    """One text where all agree, else each with its scripts."""
    groups: dict[str, list[str]] = {}
    for script, text in texts.items():
        groups.setdefault(text, []).append(script)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{', '.join(scripts)}: {text}" for text, scripts in groups.items())


def _default(plain: Mapping[str, Any], name: str) -> str:
    return _shown(name, plain[name]) if name in plain else "—"


def _shown(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        if not all(isinstance(inner, int) for inner in value.values()):
            return "its own"
        value = ", ".join(f"{name}.{each}={inner}" for each, inner in value.items() if inner)
    return f"`{value}`" if value != "" else "empty"


def _differing(texts: Mapping[str, str]) -> list[str]:
    """One text where all agree, else each with its baseline."""
    if len(set(texts.values())) == 1:
        return [next(iter(texts.values()))]
    return [f"{title}: {text}" for title, text in texts.items()]
