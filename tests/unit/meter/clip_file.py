"""A small CLIP with the key names of OpenAI's archives, and the computation that METER takes from it.

Source: docs/official/meter.md §4.2.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        layers = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU()), ("c_proj", nn.Linear(4 * width, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class Visual(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, patch: int, grid: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(grid * grid + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, 4))

    def forward(self, images: Tensor) -> Tensor:
        return self.transformer(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        return self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)


class Clip(nn.Module):
    """Both sides of CLIP; the text side is there for its keys."""

    def __init__(self, width: int = 128, layers: int = 5, heads: int = 4, patch: int = 16, grid: int = 4) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(9, 32))
        self.text_projection = nn.Parameter(torch.randn(32, 4))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.visual = Visual(width, layers, heads, patch, grid)
        self.transformer = Transformer(32, 1, 2)
        self.token_embedding = nn.Embedding(11, 32)
        self.ln_final = nn.LayerNorm(32)

    def forward(self, images: Tensor) -> Tensor:
        return self.visual(images)


@torch.no_grad()
def small_clip(**sizes: int) -> Clip:
    """In half precision, as the archives are, with no parameter at a value that another could have by chance."""
    clip = Clip(**sizes)
    for parameter in clip.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return clip.half().eval()


def save_archive(clip: Clip, path: Path) -> Path:
    """The TorchScript archive that CLIP is published as."""
    torch.jit.script(clip).save(str(path))
    return path


@torch.no_grad()
def meter_tokens(clip: Clip, images: Tensor) -> Tensor:
    """What METER's tower gives with the weights of ``clip``: all blocks but the last, then ln_post on every token."""
    visual = clip.float().visual
    hidden = visual.embed(images)
    blocks: nn.Sequential = visual.transformer.resblocks
    return visual.ln_post(blocks[:-1](hidden))
