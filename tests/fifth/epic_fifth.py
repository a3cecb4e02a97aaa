"""EPIC in the fifth baseline: the teacher's q and K of Eq. 8, and one EPIC step."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from epic_vlp.lightning_epic import LightningEpic
from epic_vlp.sacred_dialect import SacredExtension
from tests.fifth.model import FifthModel


class FifthTeacher(FifthModel):
    """What EPIC asks of a frozen model."""

    def query_key(self, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """q (B, h, d_h) of the mean patch, K (B, h, n, d_h) of the text; unmasked text and true image."""
        image, heads = self.encode_image(batch["image"][0]), self.config["num_heads"]
        output = self.joint(batch["text_ids"], batch["text_masks"], image, output_hidden_states=True)
        states, projections = output.hidden_states[:-1][layer], self.transformer.encoder.layer[layer].attention.self
        q, k = (p(states).unflatten(-1, (heads, -1)) for p in (projections.query, projections.key))
        return q[:, : image.shape[1]].mean(dim=1), k[:, image.shape[1] :].transpose(1, 2)

    def mlm_logits_at(self, batch: dict[str, Any], input_ids: Tensor, places: Tensor) -> Tensor:
        """input_ids (B, n), places (K,) in (B·n) -> MLM logits (K, vocab), for "VLM (SAS)"."""
        states = self.fuse(input_ids, batch["text_masks"], self.encode_image(batch["image"][0]))
        return self.mlm_score(states.flatten(0, 1)[places])


class FifthEpic(LightningEpic):
    """EPIC's objective as one entry of the step."""

    def step(self, model: FifthModel, batch: dict[str, Any], image: Tensor) -> dict[str, Tensor]:
        """``image`` (B, P, d): the true image, which the other objectives share."""
        self.refresh(model)
        corruption = self.corruption_of(batch["text_ids"], batch["text_masks"], batch)
        return self.losses(model.fuse(corruption.input_ids, batch["text_masks"], image), corruption)


EPIC = SacredExtension(
    epic=FifthEpic,
    teacher=FifthTeacher,
    fusion_layers=lambda config: config["num_layers"],
    image_encoder=False,
    text_ends_with_sep=True,
    fixed_views=("vit",),
)
