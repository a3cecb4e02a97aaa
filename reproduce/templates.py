"""From the families of ``experiments.yaml`` to stages as plain values: every stage of every model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vlp.config.nearest import did_you_mean
from vlp.config.schema import ConfigError

Values = Mapping[str, Any]
STAGE_KEYS = (
    *("kind", "command", "gpus", "nodes", "after", "data", "cost", "checkpoint", "found", "scored", "only", "folder"),
)
FAMILY_KEYS = ("baseline", "fields", "cells", "cost", "models", "stages")
_WHEN_RUN = ("data", "root", "output")  # placeholders that a run fills
_OF_STAGES = re.compile(r"\{(checkpoint|folder):([^/{}]+)\}")
_FIELD = re.compile(r"\{(\w+)\}")


def checks(forms: Mapping[str, Values]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The check of each data set in each form: "data/arrow/coco"."""
    for form, about in forms.items():
        for name, files in about["sets"].items():
            fields = {**about.get("fields", {}), "files": files}
            command = filled(filled(about["command"], {"files": files}, form), fields, f"check {form}")
            yield f"data/{form}/{name}", {"kind": "check", "command": command, "gpus": 0}


def stages(families: Mapping[str, Values]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, baseline, values) of every stage of every model."""
    for family, about in families.items():
        _check_keys(about, FAMILY_KEYS, f"family {family}")
        for model, own in about["models"].items():
            fields = {**about.get("fields", {}), **own, "model": f"{family}/{model}"}
            for name, template in about["stages"].items():
                where = f"stage {family}/{model}/{name}"
                _check_keys(template, STAGE_KEYS, where)
                if model not in template.get("only", [model]):
                    continue
                values = {key: _in_all(value, fields, where) for key, value in template.items()}
                if values["kind"] == "pretrain":
                    values.setdefault("data", own.get("data", []))
                    values["cost"] = [own.get("cost", about.get("cost")), own["variant"]]
                    values["pairs"] = own.get("pairs", 0)
                yield f"{family}/{model}/{name}", about["baseline"], values


def filled(text: str, fields: Values, where: str) -> str:
    """A text with its fields in, and short names of other stages made whole.

    Raises:
        ConfigError: a field that neither the family nor the model has.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name in fields and isinstance(fields[name], str | int):
            return str(fields[name])
        if name in _WHEN_RUN:
            return match[0]
        raise ConfigError(f"{where}: {{{name}}} is no field{did_you_mean(name, [*fields, *_WHEN_RUN])}")

    text = _FIELD.sub(fill, text)
    return _OF_STAGES.sub(lambda match: f"{{{match[1]}:{fields['model']}/{match[2]}}}", text)


def _in_all(value: Any, fields: Values, where: str) -> Any:
    if isinstance(value, list):
        return [_in_all(each, fields, where) for each in value]
    return filled(value, fields, where) if isinstance(value, str) else value


def _check_keys(values: Values, known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{did_you_mean(key, known)}")
