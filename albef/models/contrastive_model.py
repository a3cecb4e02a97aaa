"""What pre-training, retrieval and grounding share: two encoders, momentum copies, queues, and their two objectives.

Read ``contrast`` and :mod:`vlp.nn.fusion_passes` beside docs/official/albef.md §5: the numbers are those of the
official passes, of which there is one here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from albef.models.albef_module import AlbefModule
from albef.models.initial_weights import load_initial_weights
from vlp.distributed import gathered_rows
from vlp.losses.contrastive import contrastive_loss, soft_targets
from vlp.losses.matching import draw_negatives
from vlp.nn.feature_queue import enqueue, random_queue
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.fusion_passes import Negatives, encode_together, encoder_of, feature
from vlp.nn.momentum import copy_weights, follow, momentum_copy
from vlp.nn.padding import PaddedLayout
from vlp.nn.recompute import recompute_layers
from vlp.nn.vision import VisionEncoder
from vlp.training.compile import compile_layers


class Momentum(NamedTuple):
    """What the momentum models say of a batch."""

    image: Tensor  # (B, N, d)
    texts: list[Tensor]  # states below the fusion layers of each list of sentences, as stored
    image_feat: Tensor  # (B, embed_dim), norm 1
    text_feat: Tensor  # (B, embed_dim) of the first list of sentences
    fused_to: int | None = None  # the texts are those below this layer instead


class Similarities(NamedTuple):
    """Of a batch with itself and the queues, divided by the temperature: (B, B + Q) each."""

    image_to_text: Tensor
    text_to_image: Tensor


class ContrastiveModel(AlbefModule):
    """The model without its step; attribute names are the official checkpoint keys."""

    # Whether it starts from an image and a text encoder, and not from a checkpoint of both.
    pretraining: ClassVar[bool] = False
    image_queue: Tensor
    text_queue: Tensor
    queue_ptr: Tensor

    def __init__(self, config: dict[str, Any], text_encoder: nn.Module, image_ids: bool = False) -> None:
        """
        Args:
            config: resolved.
            text_encoder: with or without a language-modelling head.
            image_ids: whether the queue remembers which image a feature is of (``idx_queue``).
        """
        super().__init__(config)
        width, embed_dim = config["bert_config"]["hidden_size"], config["embed_dim"]
        queue_size = config["queue_size"]
        self.temp = nn.Parameter(torch.tensor(float(config["temp"])))
        self.register_buffer("image_queue", random_queue(embed_dim, queue_size))
        self.register_buffer("text_queue", random_queue(embed_dim, queue_size))
        if image_ids:
            self.register_buffer("idx_queue", torch.full((1, queue_size), -100))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
        self.visual_encoder = VisionEncoder(config["image_res"], config["vision_config"])
        self.text_encoder = text_encoder
        self.vision_proj = nn.Linear(config["vision_config"]["width"], embed_dim)
        self.text_proj = nn.Linear(width, embed_dim)
        self.itm_head = nn.Linear(width, 2)
        load_initial_weights(self, pretraining=self.pretraining)
        self.visual_encoder_m: Any = momentum_copy(self.visual_encoder)
        self.vision_proj_m = momentum_copy(self.vision_proj)
        self.text_encoder_m: Any = momentum_copy(text_encoder)
        self.text_proj_m = momentum_copy(self.text_proj)
        if config["gradient_checkpointing"]:
            recompute_layers(self)
        compile_layers(self, config["compile"])

    @property
    def bert(self) -> FusionEncoder:
        """The trained text and fusion layers."""
        return encoder_of(self.text_encoder)

    @property
    def bert_m(self) -> FusionEncoder:
        """The momentum model's."""
        return encoder_of(self.text_encoder_m)

    @property
    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each trained module and its momentum copy; the matching head has none."""
        names = ("visual_encoder", "vision_proj", "text_encoder", "text_proj")
        return [(getattr(self, name), getattr(self, f"{name}_m")) for name in names]

    def copy_params(self) -> None:
        """The momentum models become what the trained ones are."""
        copy_weights(self.pairs)

    def unused_parameters(self) -> list[str]:
        """Every trained parameter gets a gradient in every step."""
        return []

    # Encoding --------------------------------------------------------------------------------------------

    def image_feat(self, image: Tensor) -> Tensor:
        """Encoded images (B, N, d) -> (B, embed_dim), norm 1."""
        return feature(self.vision_proj, image[:, 0])

    def text_feat(self, text: Tensor, layout: PaddedLayout) -> Tensor:
        """Text states, stored as the layout says -> (B, embed_dim), norm 1."""
        return feature(self.text_proj, layout.first(text)[:, 0])

    @torch.no_grad()
    def momentum_states(self, images: Tensor, sentences: Sequence[Tensor], layout: PaddedLayout) -> Momentum:
        """Update the momentum models with the weights of the last step, and encode with them.

        images (B, 3, S, S); sentences: (B, n) ids each, the unmasked ones first.
        """
        follow(self.pairs, self.config["momentum"])
        image = self.visual_encoder_m(images)
        texts = encode_together(self.bert_m, sentences, layout)
        image_feat = feature(self.vision_proj_m, image[:, 0])
        return Momentum(image, texts, image_feat, feature(self.text_proj_m, layout.first(texts[0])[:, 0]))

    # Objectives ------------------------------------------------------------------------------------------

    def contrast(
        self, image_feat: Tensor, text_feat: Tensor, momentum: Momentum, own: Tensor, alpha: float
    ) -> tuple[dict[str, Any], Similarities]:
        """Image-text contrast with soft targets ("ita"), over the batch and the queues.

        Args:
            image_feat, text_feat: (B, embed_dim).
            own: (B, B + Q), the true targets; each row sums to 1.
            alpha: weight of the momentum model's.
        """
        with torch.autocast(self.device.type, enabled=False):  # a temperature of 0.07 needs all digits
            images, texts = (
                torch.cat([feat.T, queue.clone()], dim=1)  # the queue is written while the graph still holds it
                for feat, queue in ((momentum.image_feat, self.image_queue), (momentum.text_feat, self.text_queue))
            )
            with torch.no_grad():
                i2t = soft_targets(momentum.image_feat @ texts / self.temp, own, alpha)
                t2i = soft_targets(momentum.text_feat @ images / self.temp, own, alpha)
            similar = Similarities(image_feat @ texts / self.temp, text_feat @ images / self.temp)
            return {"ita_loss": contrastive_loss(*similar, i2t, t2i)}, similar

    def enqueue_features(self, momentum: Momentum, image_id: Tensor | None = None) -> None:
        """Write the momentum features of all ranks, and which images (B,) they are of, into the queues."""
        written = {"image_queue": momentum.image_feat, "text_queue": momentum.text_feat}
        if image_id is not None:
            written["idx_queue"] = image_id[:, None]
        queues = [getattr(self, name) for name in written]
        enqueue(queues, self.queue_ptr, [gathered_rows(rows) for rows in written.values()])

    @staticmethod
    def hard_negatives(similar: Similarities, matches: Tensor) -> Negatives:
        """Draw them from the batch; matches (B, B) bool, symmetric, are pairs that are none."""
        size = len(matches)
        images = draw_negatives(similar.text_to_image[:, :size], matches)
        return Negatives(images, draw_negatives(similar.image_to_text[:, :size], matches), matches.all(dim=1))
