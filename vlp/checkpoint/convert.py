"""Rewrite a checkpoint: official or ours -> safe .ckpt under official names, or .safetensors of the student alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.foreign import plain, read_foreign
from vlp.checkpoint.forms import command_message, existing_file, is_safetensors, is_torchscript
from vlp.checkpoint.integrity import whole_file
from vlp.checkpoint.recognition import EPIC_PREFIX
from vlp.checkpoint.safetensors_sums import safetensors_bytes
from vlp.checkpoint.weights import (
    config_of,
    pickled_names,
    read_checkpoint,
    read_metadata,
    read_state_dict,
    sha256_of_file,
    state_key,
    tensors_of,
)
from vlp.files import atomic_open

# What of a checkpoint says which weights these are; the rest is a run's to go on from.
_DESCRIPTION = ("epoch", "global_step", "pytorch-lightning_version", "hparams_name", "hyper_parameters", "versions")


class Converted(NamedTuple):
    """What a conversion wrote: tensors, tensors of EPIC left out, classes whose objects were taken over as data."""

    tensors: int
    dropped: int
    pickled: list[str]


def convert(
    source: str | Path, target: str | Path, *, trust: bool = False, student: bool = False, overwrite: bool = False
) -> Converted:
    """Write ``source`` as ``target``, whose suffix says the form (.ckpt, .pt, .pth or .safetensors).

    ``trust`` takes the pickled objects of ``source`` over as plain data (nothing in them is run); ``student`` leaves
    out EPIC's weights and what only a resumed run needs, as .safetensors always does. Keys, dtypes and bytes of the
    tensors stay; the SHA-256 of ``source`` is noted in ``target``. The same ``source`` gives the same bytes.

    Raises:
        WeightsError: unreadable, no tensors, pickled objects without ``trust`` (or that call a command, always), or a
            ``target`` that is there, without ``overwrite``.
        OSError: ``target`` cannot be written.
    """
    source, target = existing_file(source), Path(target)
    safetensors = is_safetensors(target)
    if not safetensors and target.suffix not in (".ckpt", ".pt", ".pth"):
        raise WeightsError(f"{target}: give it the suffix .ckpt or .safetensors")
    if target.exists() and target.samefile(source):
        raise WeightsError(f"{target}: is the file that is read; give another name")
    if target.is_dir():
        raise WeightsError(f"{target}: is a folder; give the name of a file")
    if os.path.lexists(target) and not overwrite:
        raise WeightsError(f"{target}: is there already and is kept; give another name, or --overwrite")
    content, pickled = read_whole(source, trust)
    key = state_key(content) or "state_dict"
    state = tensors_of(source, content)
    kept = state
    if student or safetensors:
        kept = {name: t for name, t in state.items() if not name.startswith(EPIC_PREFIX)}
    content["source"] = {"file": source.name, "sha256": sha256_of_file(source)}
    if safetensors:
        write_safetensors(target, kept, content)
    else:
        _write_checkpoint(target, key, kept, content, student)
    return Converted(len(kept), len(state) - len(kept), pickled)


def read_whole(path: Path, trust: bool) -> tuple[dict[str, Any], list[str]]:
    """A checkpoint dictionary of plain data, whatever the form of the file, and the foreign classes in it."""
    whole_file(path)
    if is_safetensors(path):
        metadata = read_metadata(path)
        config = {"hyper_parameters": {"config": metadata.pop("config")}} if "config" in metadata else {}
        described = {name: metadata[name] for name in _DESCRIPTION if name in metadata}
        return {"state_dict": read_state_dict(path), **described, **config}, []
    if is_torchscript(path):
        return {"state_dict": read_state_dict(path)}, []
    if not trust:
        return read_checkpoint(path), []
    # Before reading too: a stand-in for a command may fail to be called, with a message of less use.
    if message := command_message(path, pickled_names(path)):
        raise WeightsError(message)
    content, pickled = read_foreign(path)
    if message := command_message(path, pickled):
        raise WeightsError(message)
    return (plain(content) if pickled else content), pickled


def _write_checkpoint(
    path: Path, key: str, state: Mapping[str, Tensor], content: dict[str, Any], student: bool
) -> None:
    """The dictionary of docs/official/meter.md §8, which official code reads and ``weights_only`` loads."""
    if state_key(content) is None:
        content = {"source": content["source"]}  # a bare state dict
    if student:
        content = {name: content[name] for name in (*_DESCRIPTION, "config", "source") if name in content}
    head: dict[str, Any] = {}
    if key == "state_dict":
        head = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": version("lightning")}
    with atomic_open(path) as handle:
        torch.save({**head, **content, key: dict(state)}, handle)


def write_safetensors(path: Path, state: Mapping[str, Tensor], content: Mapping[str, Any]) -> None:
    """The tensors, with the config and where they come from as JSON beside them."""
    described = {name: content.get(name) for name in ("epoch", "global_step", "versions", "source")}
    metadata = {
        name: json.dumps(value)
        for name, value in {**described, "config": config_of(content)}.items()
        if value is not None
    }
    with atomic_open(path) as handle:
        handle.writelines(safetensors_bytes(state, {"format": "pt", **metadata}))
