"""EPIC in a checkout of the official ALBEF: what the lines of albef.patch call (docs/official_checkouts.md).

Nothing happens, and nothing of EPIC is imported, while ``epic.enabled`` is False or the config has no such key.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import epic_fusion
import torch
from epic_fusion import RunState, begin_step, build, carrying, end_step, mlm_logits, query_key
from epic_support import is_on
from torch import Tensor

ENCODERS = ("visual_encoder", "text_encoder")
_trained: Any = None  # the model that the launcher trains with EPIC


def fused(text_encoder: Any, ids: Tensor, mask: Tensor, image: Tensor) -> Tensor:
    """Last states (B, n, d) of ids (B, n), mask (B, n), with image states (B, N, c), all of which are seen."""
    seen = torch.ones(image.shape[:-1], dtype=torch.long, device=image.device)
    return text_encoder.bert(
        ids, attention_mask=mask, encoder_hidden_states=image, encoder_attention_mask=seen, return_dict=True
    ).last_hidden_state


class Questions:
    """What EPIC asks of a frozen ALBEF; the checkout's own class stands behind this one."""

    def query_key(self: Any, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """:func:`epic_fusion.query_key` of the two encoders."""
        text, image = self.text_encoder, self.visual_encoder(batch["image"])
        return query_key(text, lambda: fused(text, batch["text_ids"], batch["text_masks"], image), layer)

    def mlm_logits_at(self: Any, batch: dict[str, Any], input_ids: Tensor, places: Tensor) -> Tensor:
        """input_ids (B, n), places (K,) in (B·n) -> logits (K, vocab) with the true image, for "VLM (SAS)"."""
        states = fused(self.text_encoder, input_ids, batch["text_masks"], self.visual_encoder(batch["image"]))
        return mlm_logits(self.text_encoder, states, places)


def attach(model: Any, config: Mapping[str, Any]) -> None:
    """At the end of the constructor: build EPIC's parts.

    Raises:
        ValueError: a key that EPIC cannot run with, or a teacher or language model that does not fit.
    """
    if not is_on(config):
        return
    from epic_common.config import EpicConfig

    settings = EpicConfig.from_dict(config["epic"]).for_baseline(
        "ALBEF", image_encoder=True, text_ends_with_sep=False, momentum_model=True
    )
    build(model, config, settings, Questions, ENCODERS, momentum_model=True)
    model.epic.run = RunState()


def add_losses(
    loss: Tensor, model: Any, image: Tensor, text: Any, image_embeds: Tensor, image_embeds_m: Tensor
) -> Tensor:
    """Before ``forward`` returns: one of its losses, whose gradient has that of EPIC's losses besides.

    Args:
        text: the tokens, with input_ids (B, n) and attention_mask (B, n).
        image_embeds, image_embeds_m: (B, N, c), of the image encoder and of its momentum model.
    """
    epic = getattr(model, "epic", None)
    if epic is None:
        return loss
    # Without a number of steps a snapshot lasts an epoch, whose end is known to end_epoch alone.
    begin_step(model, "albef", sys.maxsize)
    if epic.training:
        epic.run.go_on(epic)
    ids, mask, scores = text.input_ids, text.attention_mask, None
    if epic.config.teacher == "momentum":
        scores = _momentum_scores(model, ids, mask, image_embeds_m)
    batch = {"image": image, "text_ids": ids, "text_masks": mask}
    corruption = epic.corruption_of(ids, mask, batch, image_embeds[:, 0], scores)
    losses = epic.losses(fused(model.text_encoder, corruption.input_ids, mask, image_embeds), corruption)
    end_step(epic)
    return carrying(loss, losses)


@torch.no_grad()
def _momentum_scores(model: Any, ids: Tensor, mask: Tensor, image: Tensor) -> Tensor:
    from epic_common.saliency import saliency_scores

    text = model.text_encoder_m
    return saliency_scores(*query_key(text, lambda: fused(text, ids, mask, image), model.epic.config.saliency_layer))


def add_groups(scope: Mapping[str, Any]) -> None:
    """:func:`epic_fusion.add_groups`, where the launcher has made its optimiser."""
    global _trained
    _trained = epic_fusion.add_groups(scope, head_factor=1.0)


def end_epoch() -> None:
    """After an epoch, in every process, before one saves: a snapshot of "VLM (SAS)" renewed, EPIC's state gathered."""
    if _trained is None:
        return
    epic = _trained.epic
    if epic.snapshot is not None and not epic.config.sas_refresh_steps:
        epic.snapshot.maybe_refresh(epic.steps, _trained, every=1)
    epic.run.keep(epic)
