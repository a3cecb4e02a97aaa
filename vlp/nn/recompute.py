"""Gradient checkpointing of the encoders of ALBEF and X-VLM."""

from __future__ import annotations

from torch import nn

from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.swin_encoder import SwinEncoder
from vlp.nn.vision import VisionEncoder


def recompute_layers(model: nn.Module) -> None:
    """Let the trained encoders in ``model`` compute their layers again in the backward pass."""
    for module in model.modules():
        if isinstance(module, FusionEncoder | VisionEncoder | SwinEncoder) and next(module.parameters()).requires_grad:
            if isinstance(module, FusionEncoder):
                module.gradient_checkpointing = True
            else:
                module.set_grad_checkpointing()
