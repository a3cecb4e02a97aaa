"""METER's data: which Arrow tables each dataset key reads (SPEC §3.2); the loaders are those of ``ArrowDataModule``."""

from __future__ import annotations

from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.data.arrow.registry import SPECS


class MTDataModule(ArrowDataModule):
    """The official class name, which checkpoints hold."""

    specs = SPECS
