"""What a baseline says of itself, so that EPIC can be attached to it and its saliency cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from epic_vlp.lightning_epic import LightningEpic
from vlp.checkpoint.loading import Layout
from vlp.data.arrow.datamodule import ArrowDataModule

Config = dict[str, Any]


@dataclass(frozen=True)
class EpicBaseline:
    """A baseline with EPIC, as ``attach`` and the saliency cache see it."""

    # its name, and what decides its tensors: a teacher has its own
    layout: Layout
    # its step
    epic: type[LightningEpic]
    # config -> the model that answers what EPIC asks of a teacher (epic_common.teacher.VisionLanguageModel)
    teacher: Callable[[Config], nn.Module]
    # of a built teacher, how many layers epic.saliency_layer can count
    fusion_layers: Callable[[Any], int]
    # whether it encodes the image before fusion
    image_encoder: bool
    datamodule: type[ArrowDataModule]
    # transform keys that draw nothing: the same view of an image in every epoch and beside every other image
    fixed_views: tuple[str, ...]

    @property
    def name(self) -> str:
        """As messages call it."""
        return self.layout.baseline
