"""X-VLM's weakly supervised grounding: trained as retrieval, evaluated by Grad-CAM maps over a detector's boxes.

Source: docs/official/xvlm.md §7.4.
"""

from __future__ import annotations

from vlp.yaml_dialect.referent_model import MappedModel
from xvlm.models import model_retrieval
from xvlm.models.referents import XvlmReferentModel


class XVLM(XvlmReferentModel, MappedModel, model_retrieval.XVLM):
    """Retrieval's model; ``block_num`` says which layer's maps choose the boxes."""

    @property
    def grid(self) -> int:
        return self.config["image_res"] // self.config["patch_size"]
