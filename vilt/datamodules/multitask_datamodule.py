"""ViLT's data: which Arrow tables each dataset key reads; the loaders are those of ``ArrowDataModule``.

Source: docs/official/vilt.md §3.3.
"""

from __future__ import annotations

from vilt.datamodules.tables import SPECS
from vlp.data.arrow.datamodule import ArrowDataModule


class MTDataModule(ArrowDataModule):
    """The official class name, which checkpoints hold."""

    specs = SPECS
