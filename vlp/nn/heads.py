"""Heads that more than one baseline carries, with their official key names (docs/official/meter.md §4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Pooler(nn.Module):
    """tanh(dense(token 0))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, first_token: Tensor) -> Tensor:
        """first_token (B, d) -> (B, d)."""
        return torch.tanh(self.dense(first_token))


class PredictionTransform(nn.Module):
    """dense -> GELU (erf) -> LayerNorm before the vocabulary decoder."""

    def __init__(self, width: int, layer_norm_eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width, eps=layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) -> (…, d)."""
        return self.LayerNorm(F.gelu(self.dense(x)))


class MLMHead(nn.Module):
    """Vocabulary logits; the decoder is not tied to the word embeddings, its bias is a parameter of its own."""

    def __init__(self, width: int, vocab_size: int, layer_norm_eps: float = 1e-12) -> None:
        super().__init__()
        self.transform = PredictionTransform(width, layer_norm_eps)
        self.decoder = nn.Linear(width, vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) -> (…, vocab)."""
        return F.linear(self.transform(x), self.decoder.weight, self.bias)


def classifier(width_in: int, width: int, classes: int) -> nn.Sequential:
    """Linear -> LayerNorm -> GELU (erf) -> Linear: the downstream heads, with weights under ``0``, ``1`` and ``3``."""
    return nn.Sequential(nn.Linear(width_in, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, classes))


class ITMHead(nn.Module):
    """Two logits from the pooled pair; column 1 means matched."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, 2)

    def forward(self, pair: Tensor) -> Tensor:
        """(B, width) -> (B, 2)."""
        return self.fc(pair)
