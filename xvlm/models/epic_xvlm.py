"""EPIC in X-VLM: Eq. 8 between the image's token 0 and the text's queries, and one EPIC step on the student's verbs.

A configuration with EPIC trains once it names the frozen teacher, an X-VLM pre-trained without EPIC:
    torchrun --nproc_per_node=8 Pretrain.py --config ./configs/Pretrain_XVLM_base_4m_epic.yaml \
        --output_dir output/epic teacher_path=4m_base_model_state_step_199999.th
Rows of the region stream take part with ``epic.on_regions=True``: their region stands in place of the image.

Source: docs/official/xvlm.md §10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from epic_common.config import EpicConfig, RegionEpicConfig
from epic_vlp.extension import EpicExtension
from epic_vlp.lightning_epic import LightningEpic
from vlp.checkpoint.layout import State
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM
from vlp.nn.fusion_passes import FusionPass
from vlp.nn.packed_text import text_layout
from vlp.nn.padding import PaddedLayout, Queries, QuerySubset, spread
from vlp.nn.step_plan import plan_of
from vlp.training.compile import compile_layers
from xvlm.models.checkpoints import LAYOUT
from xvlm.models.model_pretrain import XVLM, Shown, shown_by
from xvlm.models.xvlm import text_sizes, vision_encoder


class XvlmTeacher(nn.Module):
    """The two encoders of an X-VLM, as EPIC asks a frozen model; it has no projections and no heads but the MLM one."""

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__()
        self.config = config
        self.vision_encoder = vision_encoder(config)
        self.text_encoder = FusionMaskedLM(text_sizes(config))
        compile_layers(self, config["compile"])

    def text_layout(self, batch: dict[str, Any]) -> PaddedLayout:
        """How the batch's sentences are stored: as the student stores them."""
        return text_layout(plan_of(batch)["text"], self.config["pack_text"])

    def query_key(self, batch: dict[str, Any], layer: int) -> tuple[Tensor, Tensor]:
        """The key of image token 0 (B, h, d_h), and the text's queries (B, h, n, d_h), in fusion layer ``layer``.

        Unmasked text with the true image; of a region, its own token 0. No image token asks the text anything here, so
        that the roles of Eq. 8's q and K change places. Nothing after that layer's self-attention is computed.
        """
        bert, layout, seen = self.text_encoder.bert, self.text_layout(batch), shown_by(self.vision_encoder, batch)
        text = bert.text(batch["text_ids"], layout)
        return bert.query_key(text, layout, seen.image, Seen(mask=seen.mask), fusion_layer(bert, layer))

    def mlm_logits_at(self, batch: dict[str, Any], input_ids: Tensor, places: Tensor) -> Tensor:
        """input_ids (B, n), places (K,) in (B·n) -> MLM logits (K, vocab) with the true image, for "VLM (SAS)"."""
        layout, seen = self.text_layout(batch), shown_by(self.vision_encoder, batch)
        read = QuerySubset(layout, Queries.at(places, input_ids.shape[1]))
        states = self.text_encoder.bert(input_ids, layout, seen.image, Seen(mask=seen.mask), read)
        return self.text_encoder.logits(states)


class XvlmEpic(LightningEpic):
    """EPIC's objective as one pass of X-VLM's step."""

    config: RegionEpicConfig

    def takes(self, batch: dict[str, Any]) -> bool:
        """Whether the batch's sentences are corrupted and judged: those of images, of regions by choice."""
        return self.config.on_regions or "idx_to_group_img" not in batch

    def collators(self, datamodule: Any) -> list[Any]:
        """Those of images, and by choice of regions."""
        regions = datamodule.region_collate if self.config.on_regions else None
        return [*super().collators(datamodule), *([regions] if regions is not None else [])]

    def identify(self, datamodule: Any) -> None:
        datamodule.sources["images"].read.identify = True

    def passes(self, model: XVLM, batch: dict[str, Any], layout: PaddedLayout, seen: Shown) -> list[FusionPass]:
        """The corrupted sentences with what they are true of, whose states X-VLM's own objectives share."""
        if not self.takes(batch):
            return []
        self.refresh(model)
        ids = batch["text_ids"]
        corruption = self.corruption_of(ids, batch["text_masks"], batch, seen.image[:, 0], layout)
        read = Queries.all_of(plan_of(batch)["text"].tokens)

        def finish(states: Tensor) -> dict[str, Tensor]:
            return self.losses(spread(states, read, ids.shape), corruption)

        return [FusionPass(corruption.input_ids, read, finish)]

    def left_out(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Of a batch that it does not take: gradients of zeros, as the box head's in a batch of images."""
        if self.takes(batch):
            return {}
        trained = [p.sum() for p in self.parameters() if p.requires_grad]
        return {"epic_left_out_loss": 0.0 * torch.stack(trained).sum()}


def fusion_layer(bert: FusionEncoder, layer: int) -> int:
    """The index among all layers of ``epic.saliency_layer``, which counts the fusion layers."""
    return range(bert.fusion_layer, len(bert.layers))[layer]


def fusion_layers(config: Mapping[str, Any]) -> int:
    """How many there are."""
    return config["text_config"]["num_hidden_layers"] - config["text_config"]["fusion_layer"]


def check_run(config: Mapping[str, Any], settings: EpicConfig) -> None:
    """Pre-training has the keys of EPIC alone, and always an MLM head."""


def encoders_of(path: str | Path, state: State, expected: State) -> dict[str, Tensor]:
    """The two encoders of an X-VLM, for images of the teacher's size."""
    encoders = {name: t for name, t in state.items() if name.startswith(("vision_encoder.", "text_encoder."))}
    return LAYOUT.resized(path, encoders, expected)


def as_teacher(path: str, config: Mapping[str, Any], settings: EpicConfig) -> dict[str, Any]:
    """What differs in the config of the teacher of ``path``."""
    return {"checkpoint": path, "gradient_checkpointing": False}


def cached_views(config: Mapping[str, Any]) -> dict[str, Any]:
    """What images and sentences of the stream of pairs become in a run.

    Raises:
        ValueError: another view of an image each time.
    """
    if not config["fixed_views"]:
        raise ValueError(
            "saliency_cache: fixed_views=False shows another view of an image each time, and cached scores are exact "
            "on a fixed one alone: give fixed_views=True, or leave the cache out and give teacher_path"
        )
    if config["epic"].get("on_regions"):
        raise ValueError(
            "saliency_cache: epic.on_regions=True takes regions, whose views are drawn each time: leave one of both out"
        )
    keys = ("image_res", "max_words", "max_tokens")
    return {**{key: config[key] for key in keys}, "images.tokenized": config["images"]["tokenized"]}


EPIC = EpicExtension(
    epic=XvlmEpic,
    teacher=XvlmTeacher,
    check_run=check_run,
    as_teacher=as_teacher,
    text_width=lambda config: config["text_config"]["hidden_size"],
    image_width=lambda config: config["vision_config"]["vision_width"],
    text_encoder="text_encoder",
    fusion_layers=fusion_layers,
    longest_text=None,
    image_encoder=True,
    text_ends_with_sep=False,
    momentum_model=False,
    settings=RegionEpicConfig,
    teacher_layout=replace(
        LAYOUT,
        architecture=("vision_config", "text_config", "text_encoder"),
        named_in_hints=("vision_config", "text_config"),
        trunk=("vision_encoder.", "text_encoder.bert."),
        resized=encoders_of,
    ),
    fixed_views=(),
    cached_views=cached_views,
    cache_command="torchrun epic_saliency_cache.py <the flags and items of this command line, and teacher_path>",
    switch="a configuration configs/*_epic.yaml",
)
