"""Stand-ins for official models: their verbs, sub-modules, names and call order, by parts of ours.

What EPIC is given of a step is computed as officially, pass by pass; our own steps, which compute less, are not run.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import epic_meter
import epic_vilt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meter.modules.encoders import Encoders
from meter.modules.meter_module import METERTransformerSS
from tests.unit.meter import small as meter_small
from tests.unit.small_parts import Batch
from tests.unit.vilt import small as vilt_small
from vilt.modules.vilt_module import ViLTransformerSS
from vilt.modules.vision_transformer import VisionTransformer


def steps(model: Any, batch: Batch) -> dict[str, Any]:
    """MLM and ITM pass by pass; the second half of the batch gets its false images."""
    ret: dict[str, Any] = {}
    mlm = model.infer(batch, mask_text=True)
    logits = model.mlm_score(mlm["text_feats"])
    ret["mlm_loss"] = F.cross_entropy(logits.flatten(0, 1), mlm["text_labels"].flatten(), ignore_index=-100)
    labels = torch.arange(len(batch["text_ids"])) < len(batch["text_ids"]) // 2
    true, false = batch["image"][0], batch["false_image_0"][0]
    mixed = torch.where(labels[:, None, None, None], true, false)
    itm = model.infer({**batch, "image": [mixed]})
    ret["itm_loss"] = F.cross_entropy(model.itm_score(itm["cls_feats"]), labels.long())
    return ret


def loaded(model: nn.Module, path: str) -> None:
    """As official constructors load a file."""
    if path:
        model.load_state_dict(torch.load(path, weights_only=True)["state_dict"], strict=False)


class FakeMeter(METERTransformerSS):
    """METER in a patched checkout: the same constructor argument, and EPIC's lines at the official places."""

    def __init__(self, config: dict[str, Any]) -> None:
        text = meter_small.text_tower()
        super().__init__(config, Encoders(meter_small.vision_tower(config["fake_vision"], config["image_size"]), text))
        loaded(self, config["load_path"])
        epic_meter.attach(self, config)

    def forward(self, batch: Batch) -> dict[str, Any]:  # type: ignore[override]
        ret = steps(self, batch)
        epic_meter.add_losses(self, batch, ret)
        return ret

    on_save_checkpoint = epic_meter.save_state
    on_load_checkpoint = epic_meter.load_state


class ViltOfVerbs(ViLTransformerSS):
    """ViLT whose transformer embeds images by an official verb."""

    def __init__(self, config: dict[str, Any], transformer: VisionTransformer) -> None:
        super().__init__(config, transformer)
        self.transformer.visual_embed = partial(_visual_embed, self)  # type: ignore[assignment]

    def infer(self, batch: Batch, mask_text: bool = False, *args: Any, **options: Any) -> dict[str, Any]:
        if options.get("image_embeds") is None:
            visual_embed: Any = self.transformer.visual_embed
            embeds, masks, _, _ = visual_embed(
                batch["image"][0], max_image_len=self.config["max_image_len"], mask_it=False
            )
            options |= {"image_embeds": embeds, "image_masks": masks}
        return super().infer(batch, mask_text, *args, **options)


class FakeVilt(ViltOfVerbs):
    """ViLT in a patched checkout likewise."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config, vilt_small.transformer_of(config))
        loaded(self, config["load_path"])
        epic_vilt.attach(self, config)

    def forward(self, batch: Batch) -> dict[str, Any]:  # type: ignore[override]
        ret = steps(self, batch)
        epic_vilt.add_losses(self, batch, ret)
        return ret

    on_save_checkpoint = epic_vilt.save_state
    on_load_checkpoint = epic_vilt.load_state


def _visual_embed(model: Any, image: Tensor, max_image_len: int, mask_it: bool) -> tuple[Tensor, Tensor, Any, None]:
    assert not mask_it and max_image_len in (-1, model.config["max_image_len"])
    tokens = type(model.transformer).visual_embed(model.transformer, image, None, max_image_len)
    return model.transformer.pos_drop(tokens.states), tokens.mask.long(), (tokens.patch_index, tokens.grid), None
