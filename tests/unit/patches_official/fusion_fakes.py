"""Stand-ins for official ALBEF and X-VLM models: their sub-modules, names and call order, by parts of ours."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from albef.models.model_pretrain import ALBEF
from tests.unit.albef.small import VOCAB
from tests.unit.patches_official.text_encoders import BERT, text_encoder
from vlp.nn.cross_attention import CrossAttentionProjections, Seen
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.padding import PaddedLayout
from vlp.nn.region_vit import RegionVit
from vlp.nn.swin_encoder import SwinEncoder
from xvlm.models.model_pretrain import XVLM

PLACES = {"pad_token": 0, "unk_token": 100, "cls_token": 101, "sep_token": 102, "mask_token": 103}


def bert_folder(folder: Path) -> str:
    """What ``bert-base-uncased`` is to the official code: a tokenizer and a masked LM."""
    return text_encoder(folder, "bert", BERT, PLACES, VOCAB)


class OfficialBert(FusionEncoder):
    """The text and fusion encoder with the official arguments and result."""

    def forward(self, ids: Tensor, **given: Any) -> Any:  # type: ignore[override]
        assert given["return_dict"]
        layout, mask = PaddedLayout(given["attention_mask"].bool()), given["encoder_attention_mask"].bool()
        seen = Seen(mask=None if bool(mask.all()) else mask)
        return SimpleNamespace(last_hidden_state=super().forward(ids, layout, given["encoder_hidden_states"], seen))


def _officially(encoder: Any, sizes: dict[str, Any], name: str) -> None:
    """Give a masked LM of ours the official verbs, and the config that transformers gives what it loads."""
    encoder.config, encoder.bert.__class__ = SimpleNamespace(**sizes, name_or_path=name), OfficialBert
    for module in encoder.modules():
        if isinstance(module, CrossAttentionProjections):
            module.unprojected_is_cheaper = lambda *_: False  # type: ignore[method-assign]


class OfficialAlbef(ALBEF):
    """ALBEF as its official constructor leaves it, and ``bert(...)`` called with the official arguments."""

    def __init__(self, config: dict[str, Any], text_encoder: str = "") -> None:
        super().__init__(config)
        for encoder in (self.text_encoder, self.text_encoder_m):
            _officially(encoder, config["bert_config"], text_encoder)
        self.model_pairs = self.pairs


class OfficialXvlm(XVLM):
    """X-VLM likewise; its verb ``get_cross_embeds`` is official."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        _officially(self.text_encoder, config["text_config"], "")

    def get_cross_embeds(self, image: Tensor, seen: Tensor, text_ids: Tensor, text_atts: Tensor) -> Tensor:
        bert: Any = self.text_encoder.bert
        return bert(
            text_ids,
            attention_mask=text_atts,
            encoder_hidden_states=image,
            encoder_attention_mask=seen,
            return_dict=True,
        ).last_hidden_state

    def encoded(self, batch: dict[str, Any]) -> dict[str, Tensor | None]:
        """The variables of the official forward behind its encoders, by their names."""
        encoder, images = self.vision_encoder, batch.get("idx_to_group_img")
        assert isinstance(encoder, SwinEncoder | RegionVit)
        if images is None:
            image = encoder(batch["image"])
            seen = torch.ones(image.shape[:-1], dtype=torch.long)
        else:
            seen = batch["image_atts"]
            image, _ = encoder.regions(batch["image"], images, seen.bool())
        return {
            **{"image": batch["image"], "text_ids": batch["text_ids"], "text_atts": batch["text_masks"]},
            **{"image_embeds": image, "image_atts": seen, "idx_to_group_img": images},
        }
