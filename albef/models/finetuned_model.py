"""What VQA, SNLI-VE and NLVR2 share: encoders, and momentum copies of all parts, which give soft targets.

Source: docs/official/albef.md §4, §7.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from albef.models.albef_module import AlbefModule
from albef.models.initial_weights import load_initial_weights
from vlp.nn.momentum import copy_weights, follow, momentum_copy
from vlp.nn.recompute import recompute_layers
from vlp.nn.vision import VisionEncoder
from vlp.training.compile import compile_layers

MOMENTUM = 0.995  # no config says it


class FineTunedModel(AlbefModule):
    """The model without its step; attribute names are the official checkpoint keys."""

    # Whether the momentum models are copied before the checkpoint is loaded, which has none.
    early_momentum: ClassVar[bool] = False

    def __init__(self, config: dict[str, Any], **parts: nn.Module) -> None:
        """``config`` is a resolved config; ``parts`` follow the image encoder, in the official order."""
        super().__init__(config)
        self.parts = ("visual_encoder", *parts)
        self.visual_encoder = VisionEncoder(config["image_res"], config["vision_config"])
        for name, module in parts.items():
            setattr(self, name, module)
        keep_text = self.early_momentum and config["distill"] and not config["momentum_after_loading"]
        load_initial_weights(self, keep_text=keep_text)
        if config["distill"]:
            for name in self.parts:
                setattr(self, f"{name}_m", momentum_copy(getattr(self, name)))
        if config["gradient_checkpointing"]:
            recompute_layers(self)
        compile_layers(self, config["compile"])

    @property
    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each trained module and its momentum copy; none without ``distill``."""
        return [(getattr(self, name), getattr(self, f"{name}_m")) for name in self.parts if self.config["distill"]]

    def copy_params(self) -> None:
        """The momentum models become what the trained ones are."""
        copy_weights(self.pairs)

    def follow(self) -> None:
        """Update the momentum models with the weights of the last step."""
        follow(self.pairs, MOMENTUM)

    def part(self, name: str, momentum: bool) -> Any:
        """A trained module, or its momentum copy."""
        return getattr(self, f"{name}_m" if momentum else name)

    def unused_parameters(self) -> list[str]:
        """Every trained parameter gets a gradient in every step."""
        return []


def classifier(width: int, classes: int) -> nn.Sequential:
    """The classification head: Linear, ReLU, Linear, with weights under ``0`` and ``2``."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))
