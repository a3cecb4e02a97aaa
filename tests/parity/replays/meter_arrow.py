"""METER's converters on raw files, and batches of every task from their tables (fixture ``golden_arrow``)."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from tests.parity.replays import Fixture, Outputs, replay
from tests.parity.replays.data_pieces import collator, dataset
from tests.tokenizers import tokenizer_from_files
from vlp.data.arrow.caption_dataset import CaptionDataset, FalseDraws
from vlp.data.arrow.mixed import MixedDataset
from vlp.data.arrow.registry import Split
from vlp.data.arrow.task_datasets import VqaDataset

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


@replay("meter", "arrow")
def arrow(fixture: Fixture, mode: str) -> Outputs:
    """Convert the raw inputs, then build the batches from tables in the fixture's row order."""
    with tempfile.TemporaryDirectory() as folder:
        raw, written, ordered = (Path(folder, name) for name in ("raw", "written", "ordered"))
        images = _write_inputs(fixture, raw)
        _convert(fixture, raw, written)
        for table in _tables(fixture):
            yield from _table(fixture, table, written / f"{table}.arrow")
            _reorder(fixture, table, written / f"{table}.arrow", ordered / f"{table}.arrow", images)
        for name, copies in fixture.inputs["table_copies"].items():
            for copy in copies:
                (ordered / f"{copy}.arrow").write_bytes((ordered / f"{name}.arrow").read_bytes())
        for case, config in fixture.config.items():
            yield from _case(fixture, case, config, ordered)


def _tables(fixture: Fixture) -> list[str]:
    return [name.removeprefix("rows.") for name in fixture.arrays if name.startswith("rows.")]


def _write_inputs(fixture: Fixture, folder: Path) -> dict[str, bytes]:
    """Write every raw file; return the bytes of all of them by sha256."""
    contents = {}
    for name, value in fixture.inputs.items():
        if "/" in name:
            data = value.encode() if isinstance(value, str) else value.tobytes()
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            contents[f"sha256:{hashlib.sha256(data).hexdigest()}"] = data
    return contents


def _convert(fixture: Fixture, raw: Path, output: Path) -> None:
    """Run each converter that the fixture names, under its official module name."""
    arguments = [fixture.arrays[f"rows.{table}"]["args"] for table in _tables(fixture)]
    for converter, root in dict.fromkeys((args["converter"], args["root"]) for args in arguments):
        module = importlib.import_module(f"meter.utils.{converter}")
        with contextlib.redirect_stdout(io.StringIO()):
            module.make_arrow(str(raw / root), str(output))


def _table(fixture: Fixture, table: str, path: Path) -> Outputs:
    """Yield the rows as JSON texts and the columns with their types."""
    with pa.memory_map(str(path)) as file:
        content = pa.ipc.open_file(file).read_all()
        rows = [json.dumps(_describe(row), sort_keys=True) for row in content.to_pylist()]
        columns = [f"{field.name}: {field.type}".replace("item: ", "") for field in content.schema]
    stored = fixture.stored(f"rows.{table}").tolist()
    if fixture.arrays[f"rows.{table}"]["args"]["order"] == "any" and sorted(rows) == sorted(stored):
        rows = stored
    yield f"rows.{table}", np.array(rows, dtype=np.str_)
    yield f"columns.{table}", np.array(columns)


def _describe(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: f"sha256:{hashlib.sha256(value).hexdigest()}" if isinstance(value, bytes) else value
        for key, value in row.items()
    }


def _reorder(fixture: Fixture, table: str, source: Path, target: Path, images: dict[str, bytes]) -> None:
    """Write the stored rows of a table, in their order, with the schema of the converted one."""
    target.parent.mkdir(exist_ok=True)
    with pa.memory_map(str(source)) as file:
        schema = pa.ipc.open_file(file).schema
    rows = []
    for text in fixture.stored(f"rows.{table}").tolist():
        row = json.loads(text)
        rows.append({key: images.get(value, value) if "image" in key else value for key, value in row.items()})
    with pa.ipc.new_file(target, schema) as sink:
        sink.write_table(pa.Table.from_pylist(rows, schema=schema))


def _case(fixture: Fixture, case: str, config: dict[str, Any], tables: Path) -> Outputs:
    """Yield the lengths of a case's datasets and one batch of each split that is stored."""
    files = [fixture.file(fixture.inputs[f"tokenizer_{part}"]) for part in ("vocab", "merges")]
    collate = collator(tokenizer_from_files(*files), config)
    sets = {split: [dataset(key, split, config, tables) for key in config["datasets"]] for split in _SPLITS}
    lengths = [[len(dataset) for dataset in sets[split]] for split in _SPLITS]
    yield f"{case}.lengths", np.array(lengths).T
    first = sets["train"][0]
    if isinstance(first, VqaDataset):
        yield f"{case}.answers", np.array(list(first.answers().values()))
    for split in _SPLITS:
        if f"{case}.{split}.items" in fixture.arrays:
            mixed = MixedDataset(sets[split])
            items = fixture.stored(f"{case}.{split}.items").tolist()
            _force(fixture, f"{case}.{split}", mixed, items)
            yield from _batch(f"{case}.{split}", collate([mixed[item] for item in items]))


def _force(fixture: Fixture, name: str, mixed: MixedDataset, items: list[int]) -> None:
    """Fix the false draws of ``items``, flat indices of the concatenation."""
    images = fixture.choices.get(f"{name}.false_image_index")
    texts = fixture.choices.get(f"{name}.false_text_index")
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
