"""Build the dataset of a key and split: the one place that a data module calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlp.data.arrow.caption_dataset import CaptionDataset
from vlp.data.arrow.dataset import ArrowDataset, Transform
from vlp.data.arrow.manifest import Manifest
from vlp.data.arrow.registry import DatasetSpec, EvalSplit, Split, get_spec, table_files
from vlp.data.arrow.tables import ArrowTables
from vlp.data.arrow.task_datasets import Nlvr2Dataset, SnliDataset, VqaDataset

_TASKS: dict[str, type[ArrowDataset]] = {"vqa": VqaDataset, "nlvr2": Nlvr2Dataset, "snli": SnliDataset}


def build_dataset(
    key: str | DatasetSpec,
    split: Split,
    data_root: str | Path,
    transforms: Sequence[Transform],
    *,
    seed: int = 0,
    draw_false_image: int = 0,
    draw_false_text: int = 0,
    image_only: bool = False,
    eval_split: EvalSplit = "test",
) -> ArrowDataset:
    """Open the tables of ``key`` under ``data_root``; a key without tables in ``split`` is empty.

    Source: docs/official/meter.md §3.2.

    Raises:
        ValueError: the key is unknown.
        DataError: tables are missing, broken or not as they were converted.
    """
    spec = key if isinstance(key, DatasetSpec) else get_spec(key)
    files = table_files(spec, split, data_root, eval_split)
    manifest = Manifest.read(Path(data_root), spec.key) if files else None
    tables = ArrowTables(files, spec.text_column, spec.dedupe, manifest.tables if manifest else {})
    if spec.kind == "caption":
        return CaptionDataset(spec, split, tables, transforms, seed, image_only, draw_false_image, draw_false_text)
    return _TASKS[spec.kind](spec, split, tables, transforms, seed, image_only)
