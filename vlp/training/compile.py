"""``torch.compile`` of the layers that do the work, one by one; what draws or packs tokens stays between them."""

from __future__ import annotations

import torch
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.vision_transformer import Block
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vlp.nn.attention import CoAttentionLayer
from vlp.nn.fusion_bert import FusionLayer

IMAGE_LAYERS = (Block, SwinTransformerBlock)
TEXT_LAYERS = (GradientCheckpointingLayer, CoAttentionLayer, FusionLayer)  # the former is every layer of transformers
# Layers of one class share their graphs: one for each stream, mode and first_token_only.
GRAPHS_PER_CLASS = 64


def check_backend(choice: bool | str) -> None:
    """Refuse a name that torch does not know.

    Raises:
        ValueError: listing the names.
    """
    if isinstance(choice, bool):
        return
    names = torch.compiler.list_backends(exclude_tags=())  # which imports all of them
    if choice not in names:
        raise ValueError(f"compile={choice!r}: choose True, False or a backend of torch.compile: {', '.join(names)}")


def compile_layers(model: nn.Module, choice: bool | str) -> None:
    """Compile every transformer layer of ``model`` in place, which leaves the names in its state dict as they are.

    A layer must be traced whole. Sentence and batch sizes stay symbols, so that no length compiles anew.

    Args:
        choice: False, True (torch's default backend) or a backend's name.
    """
    if not choice:
        return
    torch._dynamo.config.cache_size_limit = GRAPHS_PER_CLASS
    backend = choice if isinstance(choice, str) else "inductor"
    for module in model.modules():
        if isinstance(module, TEXT_LAYERS):
            module.compile(backend=backend, fullgraph=True, dynamic=True)
        elif isinstance(module, IMAGE_LAYERS):
            # Images have one size; a batch of another size makes torch treat that size alone as a symbol.
            module.compile(backend=backend, fullgraph=True)
