"""METER's converters on raw files, and batches of every task from their tables (fixture ``golden_arrow``)."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from tests.parity.replays import Fixture, Given, Lacking, Outputs, piece, replay
from tests.parity.replays.data_pieces import collator, dataset
from tests.tokenizers import tokenizer_from_files
from vlp.data.arrow.caption_dataset import CaptionDataset, FalseDraws
from vlp.data.arrow.mixed import MixedDataset
from vlp.data.arrow.registry import Split
from vlp.data.arrow.task_datasets import VqaDataset
from vlp.data.collate import Collator
from vlp.data.errors import DataError

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


@replay("meter", "arrow")
def arrow(fixture: Fixture, mode: str) -> Outputs:
    """Convert the raw inputs, then build the batches from tables in the fixture's row order."""
    names = [name.split(".") for name in fixture.required(mode)]
    tables = dict.fromkeys(name[1] for name in names if name[0] in ("rows", "columns"))
    cases = dict.fromkeys(name[0] for name in names if name[0] not in ("rows", "columns"))
    with tempfile.TemporaryDirectory() as folder:
        raw, written, ordered = (Path(folder, name) for name in ("raw", "written", "ordered"))
        images, convert = _write_inputs(fixture, raw), cache(partial(_convert, raw, written))
        ordered.mkdir()
        for table in tables:
            yield from _table(fixture, table, convert, ordered, images)
        yield from _copies(fixture, ordered)
        for case in cases:
            yield from _case(fixture, case, ordered)


def _write_inputs(fixture: Fixture, folder: Path) -> Given:
    """Write every raw file; return the bytes of all of them by sha256."""
    contents = Given()
    for name, value in fixture.inputs.items():
        if "/" in name:
            data = value.encode() if isinstance(value, str) else value.tobytes()
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            contents[f"sha256:{hashlib.sha256(data).hexdigest()}"] = data
    return contents


def _convert(raw: Path, output: Path, converter: str, root: str) -> Path:
    """Run a converter under its official module name; returns the folder of its tables."""
    module = importlib.import_module(f"meter.utils.{converter}")
    with contextlib.redirect_stdout(io.StringIO()), _lacking_files(raw):
        module.make_arrow(str(raw / root), str(output))
    return output


@contextlib.contextmanager
def _lacking_files(folder: Path) -> Iterator[None]:
    """Read an error that names a file which the fixture has not put into the folder as Lacking."""
    try:
        yield
    except (DataError, OSError) as error:
        for name in re.findall(rf"{re.escape(str(folder))}/([^\s:;,']+)", str(error)):
            if not (folder / name).exists():
                raise Lacking(name) from error
        if "nothing to convert" in str(error):
            raise Lacking(f"raw files of {str(error).split()[4]}") from error
        raise


@piece
def _table(fixture: Fixture, table: str, convert: Callable[[str, str], Path], ordered: Path, images: Given) -> Outputs:
    """Yield the columns with their types and the rows as JSON texts; write the stored rows in their order."""
    args = fixture.arrays[f"rows.{table}"]["args"]
    path = convert(args["converter"], args["root"]) / f"{table}.arrow"
    if not path.exists():
        raise Lacking(f"raw files of {table}")
    with pa.memory_map(str(path)) as file:
        content = pa.ipc.open_file(file).read_all()
        rows = [json.dumps(_describe(row), sort_keys=True) for row in content.to_pylist()]
        columns = [f"{field.name}: {field.type}".replace("item: ", "") for field in content.schema]
    yield f"columns.{table}", np.array(columns)
    stored = fixture.stored(f"rows.{table}").tolist()
    _reorder(stored, content.schema, ordered / f"{table}.arrow", images)
    if args["order"] == "any" and sorted(rows) == sorted(stored):
        rows = stored
    yield f"rows.{table}", np.array(rows, dtype=np.str_)


def _describe(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: f"sha256:{hashlib.sha256(value).hexdigest()}" if isinstance(value, bytes) else value
        for key, value in row.items()
    }


def _reorder(stored: list[str], schema: pa.Schema, target: Path, images: Given) -> None:
    """Write the stored rows of a table, in their order, with the schema of the converted one."""
    rows = []
    for text in stored:
        row = json.loads(text)
        rows.append({key: images[value] if str(value).startswith("sha256:") else value for key, value in row.items()})
    with pa.ipc.new_file(target, schema) as sink:
        sink.write_table(pa.Table.from_pylist(rows, schema=schema))


@piece
def _copies(fixture: Fixture, tables: Path) -> Outputs:
    yield from ()
    for name, copies in fixture.inputs["table_copies"].items():
        for copy in copies if (tables / f"{name}.arrow").exists() else ():
            (tables / f"{copy}.arrow").write_bytes((tables / f"{name}.arrow").read_bytes())


@piece
def _case(fixture: Fixture, case: str, tables: Path) -> Outputs:
    """Yield the lengths of a case's datasets and one batch of each split that is stored."""
    config = fixture.config[case]
    with _lacking_files(tables):
        sets = {split: [dataset(key, split, config, tables) for key in config["datasets"]] for split in _SPLITS}
    lengths = [[len(dataset) for dataset in sets[split]] for split in _SPLITS]
    yield f"{case}.lengths", np.array(lengths).T
    first = sets["train"][0]
    if isinstance(first, VqaDataset):
        yield f"{case}.answers", np.array(list(first.answers().values()))
    files = [fixture.file(fixture.inputs[f"tokenizer_{part}"]) for part in ("vocab", "merges")]
    collate = collator(tokenizer_from_files(*files), config)
    for split in _SPLITS:
        if fixture.stores(f"{case}.{split}."):
            yield from _split(fixture, f"{case}.{split}", MixedDataset(sets[split]), collate)


@piece
def _split(fixture: Fixture, name: str, mixed: MixedDataset, collate: Collator) -> Outputs:
    items = fixture.stored(f"{name}.items").tolist()
    _force(fixture, name, mixed, items)
    yield from _batch(name, collate([mixed[item] for item in items]))


def _force(fixture: Fixture, name: str, mixed: MixedDataset, items: list[int]) -> None:
    """Fix the false draws of ``items``, flat indices of the concatenation."""
    config = fixture.config[name.split(".")[0]]
    images, texts = (
        fixture.choices[f"{name}.false_{kind}_index"] if config[f"draw_false_{kind}"] else None
        for kind in ("image", "text")
    )
    for number, item in enumerate(items):
        which = int(np.searchsorted(mixed.cumulative_sizes, item, side="right"))
        part = mixed.datasets[which]
        if isinstance(part, CaptionDataset):
            start = mixed.cumulative_sizes[which] - len(part)
            part.forced[item - start] = FalseDraws(*([] if d is None else d[number].tolist() for d in (images, texts)))


def _batch(name: str, batch: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    official = {key: value for key, value in batch.items() if key not in ("dataset", "sizes")}  # ours
    yield f"{name}.keys", np.array(sorted(f"{key}: {_kind(value)}" for key, value in official.items()))
    for key, value in official.items():
        if isinstance(value, torch.Tensor):
            yield f"{name}.{key}{'_last' if key.endswith('_mlm') else ''}", value.numpy()
        elif isinstance(value[0], list) and not isinstance(value[0], torch.Tensor):
            yield f"{name}.{key}", np.array([json.dumps(entry) for entry in value])
        elif isinstance(value[0], torch.Tensor):
            yield f"{name}.{key}", value[0].numpy()
        else:
            yield f"{name}.{key}", np.array(value)


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"tensor {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    first = value[0]
    return f"list of {len(value)} {_kind(first) if isinstance(first, torch.Tensor) else type(first).__name__}"
