"""EPIC in a checkout of the official X-VLM: what the lines of xvlm.patch call (docs/official_checkouts.md).

Nothing happens, and nothing of EPIC is imported, while ``epic.enabled`` is False or the config has no such key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import epic_fusion
import torch
import torch.distributed as dist
from epic_fusion import begin_step, build, carrying, end_step, mlm_logits, query_key
from epic_support import is_on
from torch import Tensor

ENCODERS = ("vision_encoder", "text_encoder")


class Questions:
    """What EPIC asks of a frozen X-VLM; the checkout's own class stands behind this one."""

    def query_key(self: Any, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """:func:`epic_fusion.query_key` of the two encoders."""
        return query_key(self.text_encoder, lambda: self._fused(batch, batch["text_ids"]), layer)

    def mlm_logits_at(self: Any, batch: dict[str, Any], input_ids: Tensor, places: Tensor) -> Tensor:
        """input_ids (B, n), places (K,) in (B·n) -> logits (K, vocab) with the true image, for "VLM (SAS)"."""
        return mlm_logits(self.text_encoder, self._fused(batch, input_ids), places)

    def _fused(self: Any, batch: dict[str, Any], input_ids: Tensor) -> Tensor:
        image, seen = self.vision_encoder(batch["image"]), batch["image_atts"]
        if batch["images"] is not None:
            image = of_regions(image, batch["images"], seen)
        return self.get_cross_embeds(image, seen, text_ids=input_ids, text_atts=batch["text_masks"])


def of_regions(image: Tensor, images: Tensor, seen: Tensor) -> Tensor:
    """The states of regions (B, N, c): the patches of their images, behind the mean of those that they touch.

    Args:
        image: (I, N, c) of whole images, token 0 first.
        images: (B,), which of them a region is in.
        seen: (B, N), 1 = a patch that the region touches.
    """
    patches, touched = image[images, 1:], seen[:, 1:, None].to(image.dtype)
    token = (touched * patches).sum(dim=1, keepdim=True) / touched.sum(dim=1, keepdim=True)
    return torch.cat([token, patches], dim=1)


def attach(model: Any, config: Mapping[str, Any]) -> None:
    """At the end of the constructor: build EPIC's parts, and have what ``forward`` returns carry EPIC's losses.

    Raises:
        ValueError: a key that EPIC cannot run with, or a teacher or language model that does not fit.
    """
    if not is_on(config):
        return
    from epic_common.config import RegionEpicConfig

    settings = RegionEpicConfig.from_dict(config["epic"]).for_baseline(
        "X-VLM", image_encoder=True, text_ends_with_sep=False
    )
    build(model, config, settings, Questions, ENCODERS)
    model.epic.kept = {}
    model.register_forward_hook(_add_losses)


def keep_losses(model: Any, scope: Mapping[str, Any]) -> None:
    """Behind the losses of ``forward``, whose variables ``scope`` are: compute EPIC's, for :func:`_add_losses`.

    Texts of regions take part with ``epic.on_regions``; without it EPIC's parameters get gradients of zeros there, as
    the official code's unused parameters do.
    """
    epic = getattr(model, "epic", None)
    if epic is None:
        return
    images = scope.get("idx_to_group_img")
    if images is not None and not epic.config.on_regions:
        epic.kept = {"left_out": 0.0 * torch.stack([p.sum() for p in epic.parameters() if p.requires_grad]).sum()}
        return
    begin_step(model, "xvlm", _steps_per_epoch(epic.run_config))
    ids, mask, image, seen = (scope[name] for name in ("text_ids", "text_atts", "image_embeds", "image_atts"))
    batch = {"image": scope["image"], "text_ids": ids, "text_masks": mask, "image_atts": seen, "images": images}
    corruption = epic.corruption_of(ids, mask, batch, image[:, 0])
    states = model.get_cross_embeds(image, seen, text_ids=corruption.input_ids, text_atts=mask)
    epic.kept = epic.losses(states, corruption)
    if images is None:
        end_step(epic)


def _add_losses(model: Any, _: Any, output: Any) -> Any:
    """Forward hook: the first of the losses that the model returns carries EPIC's.

    Raises:
        RuntimeError: no losses of EPIC were computed, or the model returns something else.
    """
    kept, model.epic.kept = model.epic.kept, {}
    if not kept:
        raise RuntimeError("the line `epic_xvlm.keep_losses(self, locals())` of models/model_pretrain.py did not run")
    if not isinstance(output, (tuple, list)) or not isinstance(output[0], Tensor) or output[0].dim():
        raise RuntimeError("X-VLM's forward returns no tuple of losses: EPIC's losses cannot be added to the first")
    return (carrying(output[0], kept), *output[1:])


def _steps_per_epoch(config: Mapping[str, Any]) -> int:
    """Batches of pairs, as the launcher counts them."""
    processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    return math.ceil(config["train_dataset_size"] / (config["images"]["batch_size"] * processes))


def add_groups(scope: Mapping[str, Any]) -> None:
    """:func:`epic_fusion.add_groups`, behind the optimiser; the four official groups stay the first."""
    model = epic_fusion.model_among(scope.values())
    if model is not None:
        epic_fusion.add_groups(scope, float(model.epic.run_config["optimizer"]["lr_mult"]))
