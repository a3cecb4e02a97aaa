"""Files and folders that a configuration names, seen before anything reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlp.config.paths import check_paths
from vlp.config.schema import Schema
from vlp.yaml_dialect.keys import Lists


def check_files(schema: type[Schema], values: Mapping[str, Any]) -> None:
    """Check a configuration that ``schema`` allows; a run that only evaluates needs no training lists.

    Raises:
        ConfigError: a line for each file or folder that is not there, with its key.
    """
    training = {
        name
        for name, field in schema.model_fields.items()
        if any(isinstance(marker, Lists) and marker.training for marker in field.metadata)
    }
    check_paths(schema, values, skip=training if values.get("evaluate") else ())
