"""ViLTransformerSS: ViLT's training step, which embeds each image once (docs/official/vilt.md §5, §7)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vilt.modules import objectives
from vilt.modules.vilt_model import ViltModel
from vilt.modules.vilt_utils import set_schedule
from vlp.evaluation.retrieval import EncodedCaptions
from vlp.nn.padding import TokenPlan
from vlp.sacred_dialect.joint_pass import Pass
from vlp.sacred_dialect.optimization import Optimization


class ViLTransformerSS(ViltModel):
    """The official model class."""

    def step_outputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        if "nlvr2" in self.current_tasks:  # its batches hold no single image for another objective
            return objectives.compute_nlvr2(self, batch)
        passes: list[Pass] = []
        image, mixed_image = objectives.encode_step_images(self, batch)
        if "mlm" in self.current_tasks:
            passes.append(objectives.mlm_pass(self, batch, image))
        if "mpp" in self.current_tasks:
            passes.append(objectives.mpp_pass(self, batch, image))
        if "itm" in self.current_tasks:
            passes.append(objectives.itm_wpa_pass(self, batch, mixed_image))
        if "vqa" in self.current_tasks:
            passes.append(objectives.vqa_pass(self, batch, image))
        # EPIC >
        if self.epic is not None:
            passes.append(self.epic.to_pass(self, batch, image))
        # < EPIC
        outputs = self.outputs_of(passes)
        if "irtr" in self.current_tasks:
            outputs.update(objectives.compute_irtr(self, batch, image))
        return outputs

    def caption_states(self, ids: Tensor, mask: Tensor) -> EncodedCaptions:
        return EncodedCaptions(self.encode_text(ids), mask)

    def score_captions(self, image: Tensor, captions: list[EncodedCaptions]) -> Tensor:
        tokens, first = self.encode_image(image[None], torch.tensor([image.shape[1:]])), []
        for states, mask in captions:
            each = tokens.take(torch.zeros_like(mask[:, 0]).long())
            plan = TokenPlan.of(torch.cat([mask.bool(), each.mask], dim=1))
            first.append(self.fuse(states, each, plan))
        return self.rank_output(self.pooler(torch.cat(first))).squeeze(1)

    def configure_optimizers(self) -> Optimization:
        return set_schedule(self)
