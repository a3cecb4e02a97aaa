"""X-VLM's grounding by boxes: where in an image is what a phrase says (docs/official/xvlm.md §7.4)."""

from __future__ import annotations

from typing import Any, ClassVar

from xvlm.models import model_bbox_pretrain
from xvlm.models.referents import XvlmReferentModel


class XVLM(XvlmReferentModel, model_bbox_pretrain.XVLM):
    """The official model class of grounding by boxes: the model of the stage before, with its evaluation."""

    since_start: ClassVar = False

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        self.accuracy.add_boxes(self.expressions(batch), batch["ref_id"], self.predicted(batch))
