"""The demo of ViLT, whose image encoder is the transformer that reads the text as well."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from demo.sacred_demo import SacredDemo
from vlp.nn.padding import PaddedLayout


class ViltDemo(SacredDemo):
    """The joint transformer over the patches alone."""

    def image_tokens(self, model: Any, images: Tensor) -> Tensor:
        transformer = model.transformer
        image = transformer.visual_embed(images)
        tokens: Tensor = transformer.norm(transformer.run_blocks(image.states, PaddedLayout(image.mask)))
        return tokens
