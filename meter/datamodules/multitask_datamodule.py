"""METER's data: which Arrow tables each dataset key reads; the loaders are those of ``ArrowDataModule``.

Source: docs/official/meter.md §3.2.
"""

from __future__ import annotations

from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.data.arrow.registry import SPECS


class MTDataModule(ArrowDataModule):
    """The official class name, which checkpoints hold."""

    specs = SPECS
