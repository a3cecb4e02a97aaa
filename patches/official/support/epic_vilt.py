"""EPIC in a checkout of the official ViLT: what the lines of vilt.patch call (docs/official_checkouts.md).

Nothing happens, and nothing of EPIC is imported, while ``epic.enabled`` is False or the config has no such key.
"""

from __future__ import annotations

from typing import Any

from epic_support import (
    FirstOutputs,
    build,
    default_keys,
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
    """What EPIC asks of a frozen ViLT; the checkout's own class stands behind this one."""

    def query_key(self: Any, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """q (B, h, d_h) of the image class token, which stands behind the text, and K (B, h, n, d_h) of the text."""
        (qkv,) = outputs_during(lambda: self.infer(batch), self.transformer.blocks[layer].attn.qkv)
        query, key, _ = qkv.unflatten(-1, (3, self.run_config["num_heads"], -1)).unbind(dim=2)
        n = batch["text_ids"].shape[1]
        return query[:, n], key[:, :n].transpose(1, 2)

    def mlm_logits_at(self: Any, batch: dict[str, Any], input_ids: Tensor, places: Tensor) -> Tensor:
        """input_ids (B, n), places (K,) in (B·n) -> logits (K, vocab) with the true image, for "VLM (SAS)"."""
        states = self.infer({**batch, "text_ids": input_ids})["text_feats"]
        return self.mlm_score(states.flatten(0, 1)[places])


def attach(model: Any, config: dict[str, Any]) -> None:
    """At the end of the constructor: build EPIC's parts and have the embedded images kept for it.

    Raises:
        ValueError: a key that EPIC cannot run with, or a teacher or language model that does not fit.
    """
    if not is_on(config):
        return
    from epic_common.config import EpicConfig

    settings = EpicConfig.from_dict(config["epic"]).for_baseline("ViLT", image_encoder=False, text_ends_with_sep=True)
    # All patches: the scores of a pair are fixed, also where the student draws max_image_len of them.
    build(model, config, settings, Questions, config["num_layers"], max_image_len=-1)
    model.transformer.visual_embed = _keeping(model.transformer.visual_embed, model.epic.images)


def _keeping(visual_embed: Any, images: FirstOutputs) -> Any:
    """``visual_embed`` that notes what it made of images none of whose patches are masked (they have no labels)."""

    def embed(image: Tensor, *args: Any, **options: Any) -> Any:
        embedded = visual_embed(image, *args, **options)
        if embedded[3] is None:
            images.keep(image, embedded)
        return embedded

    return embed


def add_losses(model: Any, batch: dict[str, Any], ret: dict[str, Any]) -> None:
    """At the end of ``forward``: EPIC's losses, already weighted, beside those that the training step sums."""
    epic = getattr(model, "epic", None)
    if epic is None:
        return
    refresh(model)
    embedded = epic.images.take(batch["image"][0])
    corruption = epic.corruption_of(batch["text_ids"], batch["text_masks"], batch)
    corrupted = {**batch, "text_ids": corruption.input_ids}
    if embedded is None:
        fused = model.infer(corrupted)
        epic.images.take(batch["image"][0])
    else:
        fused = model.infer(corrupted, image_embeds=embedded[0], image_masks=embedded[1])
    ret.update(epic.losses(fused["text_feats"], corruption))
    log_metrics(model)


def add_groups(model: Any, groups: list[dict[str, Any]]) -> None:
    """Before the optimiser is made: EPIC's parameters leave the official groups for groups of their own, in place."""
    if getattr(model, "epic", None) is not None:
        groups[:] = model.epic.own_groups(groups, model.epic.run_config["learning_rate"], head_factor=1.0)
