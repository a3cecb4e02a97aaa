"""What the frozen teachers of ALBEF and X-VLM share: text that asks an image, and no image that asks text.

Source: docs/official/albef.md §10, docs/official/xvlm.md §10.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from epic_common.config import EpicConfig
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM
from vlp.nn.packed_text import text_layout
from vlp.nn.padding import PaddedLayout, Queries, QuerySubset
from vlp.nn.step_plan import plan_of


class FusionTeacher(nn.Module):
    """The two encoders of a model, as EPIC asks a frozen one; a subclass builds them and says what sentences see."""

    text_encoder: FusionMaskedLM

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__()
        self.config = config

    def seen(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """What each sentence is shown: image states (B, N, c), token 0 first; which can be seen (B, N), None = all."""
        raise NotImplementedError

    def text_layout(self, batch: dict[str, Any]) -> PaddedLayout:
        """How the batch's sentences are stored: as the student stores them."""
        return text_layout(plan_of(batch)["text"], self.config["pack_text"])

    def query_key(self, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """The key of image token 0 (B, h, d_h), and the text's queries (B, h, n, d_h), in fusion layer ``layer``.

        Unmasked text with what it is true of. No image token asks the text anything here, so that the roles of Eq. 8's
        q and K change places. Nothing after that layer's self-attention is computed.
        """
        bert, layout = self.text_encoder.bert, self.text_layout(batch)
        text, (image, mask) = bert.text(batch["text_ids"], layout), self.seen(batch)
        return bert.query_key(text, layout, image, Seen(mask=mask), fusion_layer(bert, layer))

    def mlm_logits_at(self, batch: dict[str, Any], input_ids: Tensor, places: Tensor) -> Tensor:
        """input_ids (B, n), places (K,) in (B·n) -> MLM logits (K, vocab) with the true image, for "VLM (SAS)"."""
        layout, (image, mask) = self.text_layout(batch), self.seen(batch)
        read = QuerySubset(layout, Queries.at(places, input_ids.shape[1]))
        return self.text_encoder.logits(self.text_encoder.bert(input_ids, layout, image, Seen(mask=mask), read))


def fusion_layer(bert: FusionEncoder, layer: int) -> int:
    """The index among all layers of ``epic.saliency_layer``, which counts the fusion layers."""
    return range(bert.fusion_layer, len(bert.layers))[layer]


def fusion_layers(sizes: Mapping[str, Any]) -> int:
    """How many there are; ``sizes`` is the content of a file of text and fusion layers."""
    return sizes["num_hidden_layers"] - sizes["fusion_layer"]


def check_run(config: Mapping[str, Any], settings: EpicConfig) -> None:
    """Pre-training has the keys of EPIC alone, and always an MLM head."""


def as_teacher(path: str | Path, config: Mapping[str, Any], settings: EpicConfig) -> dict[str, Any]:
    """What differs in the config of the teacher of ``path``."""
    return {"checkpoint": path, "gradient_checkpointing": False}
