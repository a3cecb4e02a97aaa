"""The keys of several baselines' schemas as one table in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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


def _default(plain: Mapping[str, Any], name: str) -> str:
    if name not in plain:
        return "—"
    value = plain[name]
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
