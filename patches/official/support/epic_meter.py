"""EPIC in a checkout of the official METER: what the lines of meter.patch call (docs/official_checkouts.md).

Nothing happens, and nothing of EPIC is imported, while ``epic.enabled`` is False or the config has no such key.
"""

from __future__ import annotations

from typing import Any

import torch
from epic_support import (
    answering,
    build,
    default_keys,
    heads_apart,
    is_on,
    load_state,
    log_metrics,
    outputs_during,
    refresh,
    save_state,
)
from torch import Tensor

__all__ = ["add_groups", "add_losses", "attach", "default_keys", "load_state", "save_state"]


class Questions:
    """What EPIC asks of a frozen METER; the checkout's own class stands behind this one."""

    def query_key(self: Any, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """q (B, h, d_h) of the image and K (B, h, n, d_h) of the text in image layer ``layer``'s cross-attention.

        q is that of image token 0; a Swin has no such token: there it is the mean over the tokens' queries.
        """
        cross, config = self.cross_modal_image_layers[layer].crossattention.self, self.run_config
        query, key = outputs_during(lambda: self.infer(batch), cross.query, cross.key)
        asking = query.mean(dim=1, keepdim=True) if "swin" in config["vit"] else query[:, :1]
        return heads_apart(asking, config["num_heads"]).squeeze(2), heads_apart(key, config["num_heads"])

    def mlm_logits_at(self: Any, batch: dict[str, Any], input_ids: Tensor, places: Tensor) -> Tensor:
        """input_ids (B, n), places (K,) in (B·n) -> logits (K, vocab) with the true image, for "VLM (SAS)"."""
        states = self.infer({**batch, "text_ids": input_ids})["text_feats"]
        return self.mlm_score(states.flatten(0, 1)[places])


def attach(model: Any, config: dict[str, Any]) -> None:
    """At the end of the constructor: build EPIC's parts and have the image encoder's states kept for it.

    Raises:
        ValueError: a key that EPIC cannot run with, or a teacher or language model that does not fit.
    """
    if not is_on(config):
        return
    from epic_common.config import EpicConfig

    settings = EpicConfig.from_dict(config["epic"]).for_baseline("METER", image_encoder=True, text_ends_with_sep=True)
    build(model, config, settings, Questions, config["num_top_layer"])
    model.vit_model.register_forward_hook(lambda _, given, output: model.epic.images.keep(given[0], output))


def add_losses(model: Any, batch: dict[str, Any], ret: dict[str, Any]) -> None:
    """At the end of ``forward``: EPIC's losses, already weighted, beside those that the training step sums."""
    epic = getattr(model, "epic", None)
    if epic is None:
        return
    refresh(model)
    image = batch["image"][0]
    states = epic.images.take(image)
    if states is None:
        states = model.vit_model(image)
        epic.images.take(image)
    pooled = _pooled(model, states) if epic.config.image_conditioned else None
    corruption = epic.corruption_of(batch["text_ids"], batch["text_masks"], batch, pooled)
    with answering(model.vit_model, states):
        fused = model.infer({**batch, "text_ids": corruption.input_ids})
    epic.images.take(image)
    ret.update(epic.losses(fused["text_feats"], corruption))
    log_metrics(model)


@torch.no_grad()
def _pooled(model: Any, states: Tensor) -> Tensor:
    """The image [CLS] feature before fusion, (B, d), of the encoder's states (B, N, c); the mean where it has none."""
    first = states.mean(dim=1) if "swin" in model.epic.run_config["vit"] else states[:, 0]
    return model.cross_modal_image_transform(first) + model.token_type_embeddings.weight[1]


def add_groups(model: Any, groups: list[dict[str, Any]]) -> None:
    """Before the optimiser is made: EPIC's parameters leave the official groups for groups of their own, in place."""
    if getattr(model, "epic", None) is not None:
        config = model.epic.run_config
        groups[:] = model.epic.own_groups(groups, config["learning_rate"], config["lr_mult_head"])
