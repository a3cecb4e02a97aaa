"""Files and folders that a configuration names, seen before anything reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vlp.config.paths import check_paths
from vlp.config.schema import ConfigError, Schema
from vlp.yaml_dialect.keys import Lists


def check_files(schema: type[Schema], values: Mapping[str, Any]) -> None:
    """Check a configuration that ``schema`` allows; a run that only evaluates needs no training lists.

    Raises:
        ConfigError: a line for each file or folder that is not there or in HDFS, with its key.
    """
    if remote := list(_in_hdfs(values)):
        raise ConfigError("\n".join(remote))
    training = {
        name
        for name, field in schema.model_fields.items()
        if any(isinstance(marker, Lists) and marker.training for marker in field.metadata)
    }
    check_paths(schema, values, skip=training if values.get("evaluate") else ())


def in_hdfs(name: str, path: Any) -> str:
    """What is wrong with ``path``, the value of the flag or key ``name``, if it is in HDFS, or nothing."""
    if not isinstance(path, str) or not path.startswith("hdfs:"):
        return ""
    return (
        f"{name}={path}: HDFS is not read or written: mount it (NFS gateway, hadoop-fuse-dfs) or copy it "
        "(hdfs dfs -get), and name the local path"
    )


def _in_hdfs(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        yield from filter(None, (in_hdfs(name, path) for path in (value if isinstance(value, list) else [value])))
