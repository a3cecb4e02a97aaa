"""METER's data: which Arrow tables each dataset key reads; the loaders are those of ``ArrowDataModule``.

Source: docs/official/meter.md §3.2.
"""

from __future__ import annotations

from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.data.arrow.registry import SPECS
from vlp.data.collate import Plan
from vlp.sacred_dialect.step_plan import text_plan


class MTDataModule(ArrowDataModule):
    """The official class name, which checkpoints hold."""

    specs = SPECS

    def plans(self) -> list[Plan]:
        return [text_plan]
