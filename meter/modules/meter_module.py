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
from vlp.nn.packed_text import TextPlan
from vlp.sacred_dialect.joint_pass import Pass
from vlp.sacred_dialect.optimization import Optimization


class METERTransformerSS(MeterModel):
    """The official model class."""

    def step_outputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        if "nlvr2" in self.current_tasks:  # its batches hold no single image for another objective
            return objectives.compute_nlvr2(self, batch)
        passes: list[Pass] = []
        image, mixed_image = objectives.encode_step_images(self, batch)
        if "mlm" in self.current_tasks:
            passes.append(objectives.mlm_pass(self, batch, image))
        if "itm" in self.current_tasks:
            passes.append(objectives.itm_pass(self, batch, mixed_image))
        if "vqa" in self.current_tasks:
            passes.append(objectives.vqa_pass(self, batch, image))
        if "snli" in self.current_tasks:
            passes.append(objectives.snli_pass(self, batch, image))
        # EPIC >
        if self.epic is not None:
            passes.append(self.epic.to_pass(self, batch, image))
        # < EPIC
        outputs = self.outputs_of(passes, batch["plan"]["text"])
        if "irtr" in self.current_tasks:
            outputs.update(objectives.compute_irtr(self, batch, image))
        return outputs

    def caption_states(self, ids: Tensor, mask: Tensor) -> EncodedCaptions:
        layout = self.text_layout(TextPlan.of(mask))
        return EncodedCaptions(layout.pad(self.encode_text(ids, layout)), mask)

    def score_captions(self, image: Tensor, captions: list[EncodedCaptions]) -> Tensor:
        encoded, scores = self.encode_image(image[None]), []
        for states, mask in captions:
            layout, images = self.text_layout(TextPlan.of(mask)), encoded.expand(len(mask), -1, -1)
            fused = self.fuse(layout.unpad(states), layout, images, self.image_layout, pooled_only=True)
            scores.append(self.rank_output(self.pool(fused)))
        return torch.cat(scores).squeeze(1)

    def configure_optimizers(self) -> Optimization:
        return set_schedule(self)
