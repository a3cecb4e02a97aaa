"""The model that a command is asked about: its configuration is the one that its checkpoint holds, or that of an
official command line.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from vlp.baseline import REGISTRY, Config, get_baseline
from vlp.checkpoint.recognition import refuse_other
from vlp.checkpoint.weights import read_state_dict, saved_config
from vlp.config.schema import check
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.command_line import configured as of_items
from vlp.sacred_dialect.command_line import plain_updates
from vlp.sacred_dialect.config import base_config
from vlp.yaml_dialect.baseline import YamlBaseline
from vlp.yaml_dialect.command_line import configured, merged, nested_items, plain_defaults
from vlp.yaml_dialect.keys import YamlKeys, json_keys

PRETRAIN = "Pretrain"  # the script whose model the figures look into
# What a command line of METER and ViLT must give, and a model that is only asked never reads.
_OF_A_RUN = ("data_root=.", "per_gpu_batchsize=1")


def add_model(parser: argparse.ArgumentParser, says: str = "the model", needed: bool = True) -> None:
    """The flags that :func:`asked_model` reads; ``says`` is what the checkpoint is for."""
    parser.add_argument("--baseline", required=True, choices=list(REGISTRY))
    parser.add_argument("--checkpoint", type=Path, required=needed, metavar="FILE", help=says)
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of ALBEF's and X-VLM's command line")
    parser.add_argument(
        "--with",
        dest="items",
        nargs="+",
        default=[],
        metavar="ITEM",
        help="named configs and key=value of the official command line; on top of the checkpoint's configuration",
    )


def asked_model(arguments: argparse.Namespace, trains: bool = False) -> tuple[Any, Config]:
    """The baseline and the configuration of a command line.

    Raises:
        ValueError, WeightsError: as :func:`config_of`; or the checkpoint is another baseline's.
    """
    baseline = get_baseline(arguments.baseline)
    if arguments.checkpoint is not None:
        refuse_other(arguments.checkpoint, read_state_dict(arguments.checkpoint, mmap=True), baseline.layout)
    return baseline, config_of(baseline, arguments.checkpoint, arguments.config, arguments.items, trains)


def config_of(
    baseline: SacredBaseline | YamlBaseline,
    checkpoint: Path | None,
    file: Path | None,
    items: Sequence[str],
    trains: bool,
) -> Config:
    """The configuration of ``checkpoint`` with ``items`` on top, or that of a command line where it holds none.

    Args:
        file: the YAML file of ``--config``; with it a checkpoint's own configuration counts for nothing.
        items: named configs and ``key=value``, as the baseline's official command line takes them.
        trains: whether it must name data, too.

    Raises:
        ValueError: a line for each wrong item; or there is no configuration at all.
        WeightsError: the checkpoint is missing or unreadable.
    """
    saved = {} if checkpoint is None else saved_config(checkpoint)
    if isinstance(baseline, SacredBaseline):
        if file is not None:
            raise ValueError(f"--config {file}: {baseline.title} has named configs instead: name them behind --with")
        return _of_sacred(baseline, checkpoint, saved, items if trains else [*_OF_A_RUN, *items])
    return _of_yaml(baseline, checkpoint, {} if file is not None else saved, file, items)


def _of_sacred(
    baseline: SacredBaseline, checkpoint: Path | None, saved: Mapping[str, Any], items: Sequence[str]
) -> Config:
    updates, named = plain_updates(baseline.experiment, baseline.schema, items)
    if named or not saved:
        _refuse_nothing(checkpoint, named, f"--with {' '.join(baseline.pretraining)} key=value …")
        return of_items(baseline.experiment, baseline.schema, items)
    config = merged(_known(saved, base_config(baseline.experiment)), updates)
    check(baseline.schema, config)
    return config


def _of_yaml(
    baseline: YamlBaseline, checkpoint: Path | None, saved: Mapping[str, Any], file: Path | None, items: Sequence[str]
) -> Config:
    command = baseline.scripts[PRETRAIN].command
    base = plain_defaults(command)
    if _is_ours(saved, command.schema):
        config = reduce(merged, nested_items(items, base), _known(saved, base))
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
