"""Tables, checkpoints, YAML files and launchers' variables of which something was changed."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import torch
import yaml
from hypothesis import strategies as st
from torch import nn

from albef.baseline import BASELINE as ALBEF
from albef.config import COMMANDS as ALBEF_COMMANDS
from meter.baseline import BASELINE as METER
from tests.hostile.drawn import ODD, Drawn, changed, damaged
from tests.hostile.test_any_yaml_value import FOLDERS, LISTS
from tests.hostile.test_bytes import tables
from tests.unit.albef import small_runs as albef_runs
from tests.unit.data.raw import coco, read_table, write_coco, write_table
from tests.unit.meter import small as meter_small
from vlp.checkpoint.loading import load_into
from vlp.config.schema import check, defaults
from vlp.data.arrow.check import check as check_tables
from vlp.data.arrow.convert import convert
from vlp.data.arrow.writer import CAPTION
from vlp.yaml_dialect.command_line import resolved
from vlp.yaml_dialect.launch import find_processes
from xvlm.config import COMMANDS as XVLM_COMMANDS

COMMANDS = {
    **{f"albef {n}": c for n, c in ALBEF_COMMANDS.items()},
    **{f"xvlm {n}": c for n, c in XVLM_COMMANDS.items()},
}
TABLE = "coco_caption_karpathy_test.arrow"


@cache
def whole_tables(folder: Path) -> tuple[list[dict[str, Any]], bytes]:
    """The rows and the bytes of a table that was converted."""
    write_coco(folder / "raw", coco(images=3))
    convert("coco", folder / "raw", folder / "whole", quiet=True)
    return read_table(folder / "whole" / TABLE), (folder / "whole" / TABLE).read_bytes()


def table(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """Rows of any type under the columns' names, or other bytes; without the manifest, as other converters write it."""
    folder = folder / "tables"
    rows, content = whole_tables(folder)
    path, with_manifest = folder / "arrow" / TABLE, data.draw(st.booleans())
    shutil.rmtree(folder / "arrow", ignore_errors=True)
    shutil.copytree(folder / "whole", folder / "arrow")
    if not with_manifest:
        for other in (*path.parent.glob("*.json"), *path.parent.glob("*.crc32")):
            other.unlink()
    broken: bool | None = None
    if data.draw(st.integers(0, 3)) == 0:
        path.write_bytes(data.draw(damaged(content)))
    else:
        made = data.draw(changed(rows, _of_cells))
        broken = _write(path, made)
    here = (str(path.parent), "coco")

    def read() -> None:
        _, problems = check_tables(path.parent, ["coco"])
        tables(folder)
        assert not [line for line in problems if TABLE in line], f"read, though check finds {problems}"

    return Drawn(read, broken or (with_manifest and path.read_bytes() != content) or None, here)


_of_cells = [
    None,
    True,
    0,
    -1,
    10**40,
    0.5,
    float("nan"),
    "",
    "w1",
    "\x00",
    b"",
    b"\xff\xd8\xff",
    [],
    [None],
    ["w1"],
    [[]],
]


def _write(path: Path, rows: Any) -> bool | None:
    """Write rows that fit the schema by it, others by the types that they have; True if they cannot serve."""
    try:
        write_table(path, rows, CAPTION)
    except Exception:  # of pyarrow's, of many classes
        try:
            made = pa.Table.from_pylist(rows)
        except Exception:
            path.write_bytes(b"")
            return True
        with pa.ipc.new_file(path, made.schema) as sink:
            sink.write_table(made)
        return None
    return None


@cache
def models(folder: Path) -> dict[str, tuple[nn.Module, Any, Any]]:
    """A model of each dialect, what loads a file into it, and the content of a file that fits."""
    folder.mkdir(exist_ok=True)
    albef_runs.write_data(folder)
    config = albef_runs.config_of(folder)
    meter, albef = meter_small.meter(), ALBEF.scripts["Pretrain"].model(config)
    of_meter = {"state_dict": meter.state_dict(), "hyper_parameters": {"config": {"vit": "x", "hidden_size": 16}}}
    return {
        "meter": (meter, lambda path: load_into(meter, path, METER.layout), of_meter),
        "albef": (
            albef,
            lambda path: ALBEF.scripts["Pretrain"].load(albef, str(path), False),
            {"model": albef.state_dict(), "config": config, "epoch": 0},
        ),
    }


def checkpoint(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """Tensors that are missing, of other names, shapes and types, or no tensors; a config of any values; other bytes."""
    model, load, content = models(folder / "models")[data.draw(st.sampled_from(("meter", "albef")))]
    path = folder / "models" / "drawn.ckpt"
    key = next(iter(content))
    state = dict(content[key])
    rest = {name: value for name, value in content.items() if name != key}
    broken: bool | None = None
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(sorted(state)))
        how = data.draw(st.sampled_from(("drop", "name", "shape", "empty", "complex", "odd", "config", "key")))
        if how in ("drop", "name"):
            value = state.pop(name)
            state |= {f"x.{name}": value} if how == "name" else {}
        elif how in ("shape", "empty", "complex"):
            made = {"shape": lambda t: torch.zeros(3, 1, 2), "empty": lambda t: t[:0] if t.dim() else torch.zeros(0)}
            state[name] = made.get(how, lambda t: t.to(torch.complex64))(torch.as_tensor(state[name]))
            broken = True
        elif how == "odd":
            state[name] = data.draw(st.sampled_from(ODD))
        elif how == "config":
            rest = data.draw(changed(rest))
        else:
            state[data.draw(st.sampled_from((3, None, "", "a\nb")))] = torch.zeros(2)
    torch.save({key: state, **(rest if isinstance(rest, dict) else {"rest": rest})}, path)
    if data.draw(st.integers(0, 4)) == 0:
        path.write_bytes(data.draw(damaged(path.read_bytes())))
        broken = None
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def read() -> None:
        try:
            load(path)
            for name, value in model.state_dict().items():
                held = state.get(name)
                assert not isinstance(held, torch.Tensor) or torch.equal(value, held.to(value.dtype)), name
        finally:
            model.load_state_dict(before)

    return Drawn(read, broken, (str(path),))


def yaml_file(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """A whole file of a script of which keys are changed, or the text."""
    command = COMMANDS[data.draw(st.sampled_from(sorted(COMMANDS)))]
    places = {**dict.fromkeys(LISTS, "pairs.json"), **dict.fromkeys(FOLDERS, ".")}
    whole = {**defaults(command.schema), **{n: p for n, p in places.items() if n in command.schema.model_fields}}
    made = data.draw(changed(whole, [value for value in ODD if value != "\ud800"]))
    content = yaml.safe_dump(made, allow_unicode=True).encode()
    if data.draw(st.integers(0, 3)) == 0:
        content = data.draw(damaged(content))
    path = folder / "drawn.yaml"
    path.write_bytes(content)

    def read() -> None:
        config = resolved(command, ["--config", str(path)])
        check(command.schema, config)

    return Drawn(read, None, (str(path), *command.schema.model_fields))


VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "NODE_RANK")
VARIABLES += ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_LOCALID")
TEXTS = ("", "0", "1", "2", "-1", "65536", "1e3", " 1", "1\n", "abc", "٣", "²", "9" * 5000, "1.0", "0x1", "4(x2)")


def variables(data: st.DataObject, folder: Path, vocabulary: str) -> Drawn:
    """What a launcher exports, with other values or without some."""
    whole = dict.fromkeys(VARIABLES, "0") | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "MASTER_PORT": "29500"}
    names = data.draw(st.lists(st.sampled_from(VARIABLES), min_size=1, unique=True))
    given = {name: data.draw(st.sampled_from(TEXTS)) for name in names}
    kept = {name: value for name, value in whole.items() if data.draw(st.integers(0, 2))} | given

    def read() -> None:
        others = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        with mock.patch.dict(os.environ, {**others, **kept}, clear=True):
            found = find_processes()
        assert 1 <= found.total < 10**6 and found.total == found.per_node * found.nodes

    return Drawn(read, None, (*VARIABLES, "processes"))
