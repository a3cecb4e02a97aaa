"""The configuration of a figure's model: the one that its checkpoint holds, or that of an official command line."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacred.arg_parser import get_config_updates
from sacred.initialize import create_run

from vlp.baseline import Config
from vlp.checkpoint.weights import saved_config
from vlp.config.schema import check, check_alone
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.command_line import check_items, refuse
from vlp.sacred_dialect.config import base_config
from vlp.sacred_dialect.items import wrong_items
from vlp.sacred_dialect.usage import CommandLineError
from vlp.yaml_dialect.baseline import YamlBaseline
from vlp.yaml_dialect.command_line import configured, merged, nested_items, plain_defaults
from vlp.yaml_dialect.keys import YamlKeys, json_keys

PRETRAIN = "Pretrain"  # the script whose model the figures look into


def config_of(
    baseline: SacredBaseline | YamlBaseline, checkpoint: Path | None, file: Path | None, items: Sequence[str]
) -> Config:
    """The configuration of ``checkpoint`` with ``items`` on top, or that of a command line where it holds none.

    Args:
        file: the YAML file of ``--config``; with it a checkpoint's own configuration counts for nothing.
        items: named configs and ``key=value``, as the baseline's official command line takes them.

    Raises:
        ValueError: a line for each wrong item; or there is no configuration at all.
        WeightsError: the checkpoint is missing or unreadable.
    """
    saved = {} if checkpoint is None else saved_config(checkpoint)
    if isinstance(baseline, SacredBaseline):
        if file is not None:
            raise ValueError(f"--config {file}: {baseline.title} has named configs instead: name them behind --with")
        return _of_sacred(baseline, checkpoint, saved, items)
    return _of_yaml(baseline, checkpoint, {} if file is not None else saved, file, items)


def _of_sacred(
    baseline: SacredBaseline, checkpoint: Path | None, saved: Mapping[str, Any], items: Sequence[str]
) -> Config:
    experiment = baseline.experiment
    try:
        refuse(wrong_items(items))
        given = check_items(experiment, items)
    except CommandLineError as error:
        raise ValueError(error.message) from None
    updates, named = get_config_updates(list(items))
    if "seed" in given:  # sacred itself draws from it
        check_alone(baseline.schema, {"seed": given["seed"]})
    if named or not saved:
        _refuse_nothing(checkpoint, named, f"--with {' '.join(baseline.pretraining)} key=value …")
        run = create_run(experiment, "print_config", updates, named_configs=named)
        config = copy.deepcopy(run.config)
    else:
        config = merged(_known(saved, base_config(experiment)), updates)
    check(baseline.schema, config)
    return config


def _of_yaml(
    baseline: YamlBaseline, checkpoint: Path | None, saved: Mapping[str, Any], file: Path | None, items: Sequence[str]
) -> Config:
    command = baseline.scripts[PRETRAIN].command
    base = plain_defaults(command)
    if _is_ours(saved, command.schema):
        config = merged(_known(saved, base), nested_items(items, base))
        check(command.schema, config)
        return config
    _refuse_nothing(checkpoint, file, f"--config {Path(baseline.name, command.config)}")
    return configured(command, ["--config", str(file), *items])


def _known(saved: Mapping[str, Any], base: Mapping[str, Any]) -> Config:
    """Every key with its default, or what the run had; keys of another task's script are left out."""
    return merged(base, {key: value for key, value in saved.items() if key in base})


def _is_ours(saved: Mapping[str, Any], schema: type[YamlKeys]) -> bool:
    """Whether a checkpoint's configuration has blocks where an official one names their files."""
    return all(isinstance(saved.get(key), Mapping) for key in json_keys(schema))


def _refuse_nothing(checkpoint: Path | None, given: Any, needed: str) -> None:
    """Raise a ValueError where neither a checkpoint nor the command line says what the model is."""
    if not given:
        what = "no configuration is given" if checkpoint is None else f"{checkpoint} holds no configuration of ours"
        raise ValueError(f"{what}: add the official command line's, {needed}")
