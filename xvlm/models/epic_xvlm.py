"""EPIC in X-VLM: Eq. 8 between the image's token 0 and the text's queries, and one EPIC step on the student's verbs.

A configuration with EPIC trains once it names the frozen teacher, an X-VLM pre-trained without EPIC:
    torchrun --nproc_per_node=8 Pretrain.py --config ./configs/Pretrain_XVLM_base_4m_epic.yaml \
        --output_dir output/epic teacher_path=4m_base_model_state_step_199999.th
Rows of the region stream take part with ``epic.on_regions=True``: their region stands in place of the image.

Source: docs/official/xvlm.md §10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from epic_common.config import RegionEpicConfig
from epic_vlp.extension import EpicExtension
from epic_vlp.fusion_teacher import FusionTeacher, as_teacher, check_run, fusion_layers
from epic_vlp.lightning_epic import LightningEpic
from vlp.checkpoint.layout import State
from vlp.data.jsonl.mixed import IMAGES
from vlp.nn.fusion_bert import FusionMaskedLM
from vlp.nn.fusion_passes import FusionPass
from vlp.nn.padding import PaddedLayout, Queries, spread
from vlp.nn.step_plan import plan_of
from vlp.training.compile import compile_layers
from xvlm.models.checkpoints import LAYOUT
from xvlm.models.model_pretrain import XVLM, Shown, shown_by
from xvlm.models.xvlm import text_sizes, vision_encoder


class XvlmTeacher(FusionTeacher):
    """The two encoders of an X-VLM, whose regions have a token 0 of their own; no projections, MLM's head alone."""

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config."""
        super().__init__(config)
        self.vision_encoder = vision_encoder(config)
        self.text_encoder = FusionMaskedLM(text_sizes(config))
        compile_layers(self, config["compile"])

    def seen(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        shown = shown_by(self.vision_encoder, batch)
        return shown.image, shown.mask


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
        datamodule.sources[IMAGES].read.identify = True

    def token_blocks(self, datamodule: Any) -> Sequence[list[list[int]]]:
        """Those of images, and by choice of regions."""
        return datamodule.token_blocks(None if self.config.on_regions else [IMAGES])

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


def encoders_of(path: str | Path, state: State, expected: State) -> dict[str, Tensor]:
    """The two encoders of an X-VLM, for images of the teacher's size."""
    encoders = {name: t for name, t in state.items() if name.startswith(("vision_encoder.", "text_encoder."))}
    return LAYOUT.resized(path, encoders, expected)


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
    fusion_layers=lambda config: fusion_layers(config["text_config"]),
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
