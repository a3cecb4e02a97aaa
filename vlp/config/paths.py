"""Files and folders that a configuration names and that must be there, seen before anything reads them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

from vlp.config.kinds import Text
from vlp.config.schema import ConfigError, Schema


class MustExist:
    """Of a key: the file or folder that it names, if it names one, must be there."""

    def __init__(self, folder: bool = False, but: tuple[str, ...] = (), advice: str = "") -> None:
        """``but`` are words that name no file; ``advice`` follows the message."""
        self.folder, self.but, self.advice = folder, but, advice

    def complaint(self, value: Any) -> str:
        """What is wrong with a value, or nothing."""
        if not value or value in self.but or (os.path.isdir(value) if self.folder else os.path.exists(value)):
            return ""
        return ("not a folder" if self.folder else "no such file") + self.advice


File = Annotated[Text, MustExist()]


def check_paths(schema: type[Schema], values: Mapping[str, Any], skip: Collection[str] = ()) -> None:
    """Check a configuration that ``schema`` allows; ``skip`` are keys that this run does not read.

    Raises:
        ConfigError: a line for each file or folder that is not there, with its key.
    """
    if lines := [line for name, line in _complaints(schema, values) if name not in skip]:
        raise ConfigError("\n".join(lines))


def _complaints(schema: type[Schema], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, field in schema.model_fields.items():
        for marker in field.metadata:
            if isinstance(marker, MustExist) and (complaint := marker.complaint(values[name])):
                yield name, f"{name}={values[name]}: {complaint}"
