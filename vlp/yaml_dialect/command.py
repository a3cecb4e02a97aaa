"""A script of a baseline, as its command line sees it."""

from __future__ import annotations

from dataclasses import dataclass

from vlp.yaml_dialect.keys import YamlKeys


@dataclass(frozen=True)
class Command:
    """What a command line needs to know before anything is built.

    Attributes:
        name: of the script, without its suffix.
        config: the YAML file that it reads where ``--config`` is not given, relative to the baseline's folder.
        schema: what every key may be.
    """

    name: str
    config: str
    schema: type[YamlKeys]
