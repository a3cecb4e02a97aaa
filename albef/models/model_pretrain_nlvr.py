"""NLVR2's first stage: to which of two images does a text belong, if to any (docs/official/albef.md §5)."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from albef.models.albef_module import AlbefModule
from albef.models.initial_weights import load_initial_weights
from albef.models.paired_encoder import paired_encoder
from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.nn.cross_attention import Seen
from vlp.nn.padding import Queries, QuerySubset
from vlp.nn.recompute import recompute_layers
from vlp.nn.step_plan import plan_of
from vlp.nn.vision import VisionEncoder
from vlp.training.compile import compile_layers
from vlp.training.ddp import names_below

TEMPERATURE = 0.07  # no config says it
OWN_FIRST, OWN_SECOND, NEITHER = range(3)


class Assignment(NamedTuple):
    """For each text the two images that it is shown, as rows of the batch, and the class: (B,) int64 each."""

    first: Tensor
    second: Tensor
    labels: Tensor


class ALBEF(AlbefModule):
    """The official model class of NLVR2's text assignment."""

    meters: ClassVar = {"loss": "ta_loss"}

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config)
        width = config["bert_config"]["hidden_size"]
        self.temp = nn.Parameter(torch.tensor(TEMPERATURE))
        self.visual_encoder = VisionEncoder(config["image_res"], config["vision_config"])
        self.text_encoder = paired_encoder(config["bert_config"])
        self.vision_proj = nn.Linear(config["vision_config"]["width"], config["embed_dim"])
        self.text_proj = nn.Linear(width, config["embed_dim"])
        self.ta_head = nn.Linear(width, 3)
        load_initial_weights(self)
        if config["gradient_checkpointing"]:
            recompute_layers(self)
        compile_layers(self, config["compile"])

    def unused_parameters(self) -> list[str]:
        """The projections draw images, without a gradient, and no objective reads the text's."""
        return ["temp", *names_below(self, ("vision_proj.", "text_proj."))]

    def forward(self, batch: dict[str, Any], alpha: float, assignment: Assignment | None = None) -> dict[str, Any]:
        """The loss of one training batch.

        Args:
            alpha: nothing here has soft targets.
            assignment: the images of each text; by default they are drawn.

        Raises:
            ValueError: a batch of fewer than three images, where no text can be shown two that are not its own.
        """
        images = self.visual_encoder(batch["image"])
        if len(images) < 3:
            raise ValueError(f"batch_size={len(images)}: NLVR2's text assignment needs at least 3 per process")
        shown = draw_assignment(self.similarities(images)) if assignment is None else assignment
        layout = self.text_layout(plan_of(batch)["text"])
        assert layout.mask is not None
        first = QuerySubset(layout, Queries.first(layout.mask))
        pair = [images[shown.first], images[shown.second]]
        logits = self.ta_head(self.text_encoder(batch["text_ids"], layout, pair, Seen(), first))
        return {"ta_loss": mean_cross_entropy(logits, shown.labels), "logits": logits}

    @torch.no_grad()
    def similarities(self, images: Tensor) -> Tensor:
        """Of each image (B, N, d) with each, divided by the temperature: (B, B)."""
        with torch.autocast(images.device.type, enabled=False):
            feats = F.normalize(self.vision_proj(images[:, 0].float()), dim=-1)
            return feats @ feats.T / self.temp


@torch.no_grad()
def draw_assignment(similarities: Tensor) -> Assignment:
    """Show each text its own image beside one that looks like it, or two of those.

    A third of the texts each see their own image first, second or not at all. Others are drawn by a softmax of
    similarities (B, B) without the own image; a race of exponentials, whose two fastest are two draws without
    replacement, and which no GPU's host waits for.
    """
    size, device = len(similarities), similarities.device
    own = torch.arange(size, device=device)
    others = similarities.float().masked_fill(torch.eye(size, dtype=torch.bool, device=device), -torch.inf)
    weights = others.softmax(dim=1)
    one, two = (weights / torch.empty_like(weights).exponential_()).topk(2, dim=1).indices.unbind(dim=1)
    shown, order = torch.rand(size, device=device) > 1 / 3, torch.rand(size, device=device) > 0.5
    first = torch.where(shown & order, own, one)
    second = torch.where(shown, torch.where(order, one, own), two)
    labels = torch.where(shown, torch.where(order, OWN_FIRST, OWN_SECOND), NEITHER)
    return Assignment(first, second, labels)
