"""ViLT's data: which Arrow tables each dataset key reads; the loaders are those of ``ArrowDataModule``.

Source: docs/official/vilt.md §3.3.
"""

from __future__ import annotations

from functools import partial

from vilt.datamodules.tables import SPECS
from vilt.modules.step_plan import step_plan
from vlp.data.arrow.datamodule import ArrowDataModule
from vlp.data.collate import Plan


class MTDataModule(ArrowDataModule):
    """The official class name, which checkpoints hold."""

    specs = SPECS

    def plans(self) -> list[Plan]:
        sizes = {key: self.config[key] for key in ("patch_size", "max_image_len")}
        return [partial(step_plan, **sizes)]
