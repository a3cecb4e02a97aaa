"""How much of the published data sets a run's tables hold: kept beside its results."""

from __future__ import annotations

from typing import Any

from vlp.data.arrow.dataset import ArrowDataset
from vlp.data.arrow.registry import EvalSplit
from vlp.data.published import TABLES, coverage


def coverage_of(dataset: ArrowDataset, eval_split: EvalSplit) -> dict[str, Any]:
    """Tables, rows and texts of a dataset key in a split, their published size and the share of it that is there.

    Images are counted of caption sets, texts of the others, as the published sizes are.
    """
    spec, tables = dataset.spec, dataset.tables
    found = tables.num_rows if spec.kind == "caption" else tables.num_texts
    return {
        "split": dataset.split,
        "dataset": spec.key,
        "tables": tables.names,
        "rows": tables.num_rows,
        "texts": tables.num_texts,
        **coverage(TABLES, spec.tables(dataset.split, eval_split), found),
    }
