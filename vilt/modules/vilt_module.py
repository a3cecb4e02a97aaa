"""ViLTransformerSS: ViLT's training step, which embeds each image once (docs/official/vilt.md §5, §7)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vilt.modules import objectives
from vilt.modules.vilt_model import ViltModel
from vilt.modules.vilt_utils import set_schedule
from vlp.evaluation.retrieval import EncodedCaptions
from vlp.sacred_dialect.optimization import Optimization


class ViLTransformerSS(ViltModel):
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
        if "mpp" in self.current_tasks:
            outputs.update(objectives.compute_mpp(self, batch, image))
        if itm_labels is not None:
            outputs.update(objectives.compute_itm_wpa(self, batch, mixed_image, itm_labels))
        if "vqa" in self.current_tasks:
            outputs.update(objectives.compute_vqa(self, batch, image))
        if "irtr" in self.current_tasks:
            outputs.update(objectives.compute_irtr(self, untrimmed, image))
        # EPIC >
        if self.epic is not None:
            outputs.update(self.epic.step(self, batch, image))
        # < EPIC
        return outputs

    def caption_states(self, ids: Tensor, mask: Tensor) -> EncodedCaptions:
        return EncodedCaptions(self.encode_text(ids), mask)

    def score_captions(self, image: Tensor, captions: list[EncodedCaptions]) -> Tensor:
        tokens = self.encode_image(image[None], torch.tensor([image.shape[1:]]))
        each = [tokens.take(torch.zeros_like(c.mask[:, 0]).long()) for c in captions]
        pairs = [objectives.pooled(self, c.states, c.mask, t) for c, t in zip(captions, each, strict=True)]
        return self.rank_output(torch.cat(pairs)).squeeze(1)

    def configure_optimizers(self) -> Optimization:
        return set_schedule(self)
