"""EPIC in ALBEF: Eq. 8 between the image's [CLS] and the text's queries, and one EPIC step on the student's verbs.

A configuration with EPIC trains once it names the frozen teacher, an ALBEF pre-trained without EPIC; or the momentum
model, which every step has already, is the teacher:
    torchrun --nproc_per_node=8 Pretrain.py --config ./configs/Pretrain_4M_epic.yaml teacher_path=ALBEF_4M.pth
    torchrun --nproc_per_node=8 Pretrain.py --config ./configs/Pretrain_4M_epic.yaml epic.teacher=momentum

Source: docs/official/albef.md §10.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from albef.models.checkpoints import LAYOUT
from albef.models.contrastive_model import Momentum
from albef.models.model_pretrain import ALBEF
from epic_common.saliency import saliency_scores
from epic_vlp.extension import EpicExtension
from epic_vlp.fusion_teacher import FusionTeacher, as_teacher, check_run, fusion_layer, fusion_layers
from epic_vlp.lightning_epic import LightningEpic
from vlp.checkpoint.layout import State
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionMaskedLM
from vlp.nn.fusion_passes import FusionPass
from vlp.nn.padding import PaddedLayout, Queries, spread, stacked
from vlp.nn.step_plan import plan_of
from vlp.nn.vision import VisionEncoder
from vlp.training.compile import compile_layers


class AlbefTeacher(FusionTeacher):
    """The two encoders of an ALBEF; it has no momentum models, queues and projections."""

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config)
        self.visual_encoder = VisionEncoder(config["image_res"], config["vision_config"])
        self.text_encoder = FusionMaskedLM(config["bert_config"])
        compile_layers(self, config["compile"])

    def seen(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        return self.visual_encoder(batch["image"]), None


class AlbefEpic(LightningEpic):
    """EPIC's objective as one pass of ALBEF's step."""

    @torch.no_grad()
    def momentum_scores(self, model: ALBEF, momentum: Momentum, layout: PaddedLayout) -> tuple[Momentum, Tensor | None]:
        """Eq. 8's scores (B, n) by the momentum model, where that is the teacher, and what it then knows of the batch.

        The unmasked sentences, which officially go through its text layers alone, go on through fusion layers beside
        the masked ones, as far as the scores need; the masked ones are left there, for the rest of their own way.
        """
        if self.config.teacher != "momentum":
            return momentum, None
        bert, (clean, masked) = model.bert_m, momentum.texts
        stop = fusion_layer(bert, self.config.saliency_layer)
        both = stacked([layout, layout])
        clean, masked = bert.fuse(torch.cat([clean, masked]), both, momentum.image, Seen(rounds=2), stop=stop).chunk(2)
        scores = saliency_scores(*bert.query_key(clean, layout, momentum.image, Seen(), stop, start=stop))
        return momentum._replace(texts=[clean, masked], fused_to=stop), scores

    def to_pass(
        self, model: ALBEF, batch: dict[str, Any], layout: PaddedLayout, image: Tensor, scores: Tensor | None
    ) -> FusionPass:
        """The corrupted sentences with the true images, whose states (B, N, d) ALBEF's own objectives share."""
        self.refresh(model)
        ids = batch["text_ids"]
        corruption = self.corruption_of(ids, batch["text_masks"], batch, image[:, 0], layout, scores)
        read = Queries.all_of(plan_of(batch)["text"].tokens)

        def finish(states: Tensor) -> dict[str, Tensor]:
            return self.losses(spread(states, read, ids.shape), corruption)

        return FusionPass(corruption.input_ids, read, finish)


def encoders_of(path: str | Path, state: State, expected: State) -> dict[str, Tensor]:
    """The two encoders of an ALBEF, for images of the teacher's size."""
    encoders = {name: t for name, t in state.items() if name.startswith(LAYOUT.recognised_by)}
    return LAYOUT.resized(path, encoders, expected)


EPIC = EpicExtension(
    epic=AlbefEpic,
    teacher=AlbefTeacher,
    check_run=check_run,
    as_teacher=as_teacher,
    text_width=lambda config: config["bert_config"]["hidden_size"],
    image_width=lambda config: config["vision_config"]["width"],
    text_encoder="text_encoder",
    fusion_layers=lambda config: fusion_layers(config["bert_config"]),
    longest_text=None,
    image_encoder=True,
    text_ends_with_sep=False,
    momentum_model=True,
    teacher_layout=replace(
        LAYOUT,
        architecture=("vision_config", "bert_config", "text_encoder"),
        named_in_hints=("vision_config", "bert_config"),
        trunk=("visual_encoder.", "text_encoder.bert."),
        resized=encoders_of,
    ),
    fixed_views=(),  # every view of pre-training is drawn
    switch="a configuration configs/*_epic.yaml",
)
