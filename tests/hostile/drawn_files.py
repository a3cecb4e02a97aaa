"""YAML files, tables, checkpoints and launchers' variables of which something was changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import torch
from hypothesis import strategies as st
from torch import nn

from albef.baseline import BASELINE as ALBEF
from albef.config import COMMANDS as ALBEF_COMMANDS
from meter.baseline import BASELINE as METER
from tests.hostile.drawn import ANYTHING, Drawn, changed, perhaps_damaged
from tests.hostile.test_any_yaml_value import DECIDED, merged_value, same
from tests.hostile.test_bytes import tables
from tests.launch.launcher import ROOT
from tests.unit.albef import small_runs
from tests.unit.data.raw import coco, read_table, write_coco, write_table
from tests.unit.meter import small as meter_small
from vlp.checkpoint.loading import load_into
from vlp.config.paths import MustExist
from vlp.data.arrow.convert import convert
from vlp.data.arrow.writer import CAPTION
from vlp.data.images import decode_image
from vlp.data.transforms import build_transform
from vlp.training.launch_variables import LIMIT, NUMBERS
from vlp.yaml_dialect.command import Command
from vlp.yaml_dialect.command_line import resolved
from vlp.yaml_dialect.keys import json_keys
from vlp.yaml_dialect.launch import find_processes
from vlp.yaml_dialect.yaml_file import read_yaml, write_yaml
from xvlm.config import COMMANDS as XVLM_COMMANDS

COMMANDS = {
    (folder, name): command
    for folder, commands in (("albef", ALBEF_COMMANDS), ("xvlm", XVLM_COMMANDS))
    for name, command in commands.items()
}


@cache
def shipped(folder: Path, baseline: str, command: Command) -> Mapping[str, Any]:
    """The keys of the YAML file that a script comes with; the files and folders that it names are there."""
    (folder / "list.json").write_text("[]")
    config = ROOT / baseline / command.config
    values = read_yaml(config)
    for name, value in values.items():
        if name in json_keys(command.schema):
            values[name] = str(config.with_name(Path(value).name))
        for marker in command.schema.model_fields[name].metadata:
            if isinstance(marker, MustExist) and value:
                there = str(folder if marker.folder else folder / "list.json")
                values[name] = [there] if isinstance(value, list) else there
    return values


def yaml_file(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """A shipped file of a script of which keys are changed, or the text; what it says is what a run gets."""
    baseline, name = data.draw(st.sampled_from(sorted(COMMANDS)))
    command, path = COMMANDS[baseline, name], folder / "drawn.yaml"
    encoded = ANYTHING.filter(lambda value: value != "\ud800")
    write_yaml(path, data.draw(changed(dict(shipped(folder, baseline, command)), encoded)))
    path.write_bytes(data.draw(perhaps_damaged(path.read_bytes())))

    def read() -> bool:
        config = resolved(command, ["--config", str(path)])
        for key, value in read_yaml(path).items():
            decided = key in DECIDED or key in json_keys(command.schema)
            assert decided or same(config[key], merged_value(command, key, value)), key
        return False

    return Drawn(read, False, (str(path), *command.schema.model_fields))


TABLE = "coco_caption_karpathy_test.arrow"
CELLS = st.sampled_from([b"", b"\xff\xd8\xff", None, ["w1"], [None], "\x00", 0.5]) | st.text(max_size=9) | ANYTHING


@cache
def whole_tables(folder: Path) -> list[dict[str, Any]]:
    """The rows of a table that was converted; it stays in ``folder``/whole/arrow."""
    write_coco(folder / "raw", coco(images=3))
    convert("coco", folder / "raw", folder / "whole/arrow", quiet=True)
    return read_table(folder / "whole/arrow" / TABLE)


def table(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """A table of other rows or bytes, with its manifest or, as other converters leave it, without.

    What is read are the texts and images that pyarrow finds in the file; with the manifest those that were converted.
    """
    rows, place, pixels = whole_tables(folder), folder / "drawn/arrow", build_transform("clip", 16)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "whole/arrow", place)
    if not (with_manifest := data.draw(st.booleans())):
        for other in (*place.glob("*.json"), *place.glob("*.crc32")):
            other.unlink()
    if not (readable := _write(place / TABLE, data.draw(changed(rows, CELLS)) if data.draw(st.booleans()) else rows)):
        (place / TABLE).write_bytes(b"")
    (place / TABLE).write_bytes(data.draw(perhaps_damaged((place / TABLE).read_bytes())))

    def read() -> bool:
        samples = [dict(sample) for sample in tables(place.parent)]
        held: list[Any] = rows if with_manifest else read_table(place / TABLE)
        pairs = [(row["image"], text) for row in held for text in dict.fromkeys(row["caption"] or ())]  # each once
        assert len(samples) == len(pairs)
        for sample, (image, text) in zip(samples, pairs, strict=True):
            assert sample["text"] == text
            assert sample["image"] == pixels(decode_image(image, pixels.mode)).tolist()
        return False

    return Drawn(read, not readable, (str(place), "coco"))


def _write(path: Path, rows: Any) -> bool:
    """Write rows by the schema, or if they do not fit it, by the types that they have; False if pyarrow cannot."""
    for schema in (CAPTION, None):
        try:
            write_table(path, rows, schema or pa.Table.from_pylist(rows).schema)
        except Exception:  # pyarrow's are of many classes
            continue
        return True
    return False


Loader = Callable[[Path], object]


@cache
def models(folder: Path) -> dict[str, tuple[nn.Module, Loader, str, Mapping[str, Any]]]:
    """A model of each dialect, what loads a file into it, and of a file the key of its tensors and the rest."""
    folder.mkdir()
    small_runs.write_data(folder)
    config = small_runs.config_of(folder)
    meter, script = meter_small.meter(), ALBEF.scripts["Pretrain"]
    albef = script.model(config)
    return {
        "meter": (
            meter,
            lambda path: load_into(meter, path, METER.layout),
            "state_dict",
            {"hyper_parameters": {"config": {"vit": "x", "hidden_size": 16}}},
        ),
        "albef": (albef, lambda path: script.load(albef, str(path), False), "model", {"config": config, "epoch": 0}),
    }


def checkpoint(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """Tensors that are missing, of other names, shapes and types, or no tensors; a config of any values; other bytes.

    What the model and the file both have, the model has afterwards as the file has it.
    """
    model, load, key, rest = models(folder / "models")[data.draw(st.sampled_from(("meter", "albef")))]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state: dict[Any, Any] = {**before}
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(sorted(before.keys() & state.keys())))
        how = data.draw(st.sampled_from((*CHANGES, "drop", "rename", "odd", "config", "key")))
        if how in CHANGES:
            state[name] = CHANGES[how](before[name])
        elif how == "odd":
            state[name] = data.draw(ANYTHING)
        elif how == "config":
            made = data.draw(changed(dict(rest)))
            rest = made if isinstance(made, dict) else {}
        elif how == "key":
            state[data.draw(st.sampled_from((3, None, "", "a\nb")))] = torch.zeros(2)
        elif (value := state.pop(name)) is not None and how == "rename":
            state[f"x.{name}"] = value
    path = folder / "models/drawn.ckpt"
    torch.save({**rest, key: state}, path)
    path.write_bytes(data.draw(perhaps_damaged(path.read_bytes())))

    def read() -> bool:
        try:
            load(path)
            for name, value in model.state_dict().items():
                held = state.get(name)
                assert not isinstance(held, torch.Tensor) or torch.equal(value, held.to(value.dtype)), name
        finally:
            model.load_state_dict(before)
        return False

    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    broken = any(
        not isinstance(name, str)
        or (name in before and (value.shape, value.is_complex()) != (before[name].shape, False))
        for name, value in tensors.items()
    )
    return Drawn(read, broken, (str(path),))


CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "shape": lambda tensor: torch.zeros(3, 1, 2),
    "empty": lambda tensor: tensor[:0] if tensor.dim() else torch.zeros(0),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "nan": lambda tensor: torch.full(tensor.shape, np.nan),
    "half": lambda tensor: tensor.half() if tensor.is_floating_point() else tensor,
    "same": lambda tensor: tensor,
}
VALID = dict.fromkeys(NUMBERS, "0") | {name: "1" for name, least in NUMBERS.items() if least} | {LIMIT: "60"}
TEXTS = ("", "0", "1", "2", "-1", "65536", "1e3", " 1", "1\n", "abc", "٣", "²", "9" * 5000, "1.0", "0x1", "4(x2)", "x")


def variables(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """What launchers export, some of it with another value or not at all; what is accepted is a number."""
    kept = data.draw(st.sets(st.sampled_from(sorted(VALID))))
    odd = data.draw(st.dictionaries(st.sampled_from(sorted(VALID)), st.sampled_from(TEXTS), max_size=2))
    exported = {**{name: VALID[name] for name in kept}, **odd}

    def read() -> bool:
        others = {name: value for name, value in os.environ.items() if name not in VALID}
        with mock.patch.dict(os.environ, {**others, **exported}, clear=True):
            found = find_processes()
        for name, value in exported.items():
            assert name == LIMIT or not value or int(value) >= NUMBERS[name], name
        world = exported.get("WORLD_SIZE" if found.launcher == "torchrun" else "SLURM_NTASKS") or 1
        assert found.total == found.per_node * found.nodes == (int(world) if found.launcher else 1)
        return False

    return Drawn(read, False, (*exported, "processes"))
