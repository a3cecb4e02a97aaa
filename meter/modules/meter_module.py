"""METERTransformerSS: METER's training step, which computes each image's features once.

Source: docs/official/meter.md §5, §7.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from meter.modules import objectives
from meter.modules.meter_model import MeterModel
from meter.modules.meter_utils import set_schedule
from vlp.evaluation.retrieval import EncodedCaptions
from vlp.sacred_dialect.optimization import Optimization


class METERTransformerSS(MeterModel):
    """The official model class."""

    def step_outputs(
        self, batch: dict[str, Any], untrimmed: dict[str, Any], itm_labels: Tensor | None
    ) -> dict[str, Any]:
        if "nlvr2" in self.current_tasks:  # its batches hold no single image for another objective
            return objectives.compute_nlvr2(self, batch)
        outputs: dict[str, Any] = {}
        image, mixed_image = objectives.encode_step_images(self, batch, itm_labels)
        if "mlm" in self.current_tasks:
            outputs.update(objectives.compute_mlm(self, batch, image))
        if itm_labels is not None:
            outputs.update(objectives.compute_itm(self, batch, mixed_image, itm_labels))
        if "irtr" in self.current_tasks:
            outputs.update(objectives.compute_irtr(self, untrimmed, image))
        if "vqa" in self.current_tasks:
            outputs.update(objectives.compute_vqa(self, batch, image))
        if "snli" in self.current_tasks:
            outputs.update(objectives.compute_snli(self, batch, image))
        # EPIC >
        if self.epic is not None:
            outputs.update(self.epic.step(self, batch, image))
        # < EPIC
        return outputs

    def caption_states(self, ids: Tensor, mask: Tensor) -> EncodedCaptions:
        return EncodedCaptions(self.encode_text(ids, mask), mask)

    def score_captions(self, image: Tensor, captions: list[EncodedCaptions]) -> Tensor:
        states = self.encode_image(image[None])
        fused = (self.fuse(c.states, c.mask, states.expand(len(c.mask), -1, -1), pooled_only=True) for c in captions)
        return torch.cat([self.rank_output(self.pool(f)) for f in fused]).squeeze(1)

    def configure_optimizers(self) -> Optimization:
        return set_schedule(self)
