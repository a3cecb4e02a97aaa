"""Post-norm attention and feed-forward blocks of BERT, named as BERT checkpoints name them.

``<block>.self.{query,key,value}`` and ``<block>.output.{dense,LayerNorm}``; the fusion layers of METER,
ALBEF and X-VLM are built from these (docs/official/meter.md §4.5).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlp.nn.padding import PaddedLayout, QuerySubset


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ / sqrt(d_h)) over keys that ``mask`` shows; q (B, h, n, d_h), k (B, h, m, d_h) -> (B, h, n, m)."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (scores if mask is None else scores.masked_fill(~mask, float("-inf"))).softmax(dim=-1)


class AttentionProjections(nn.Module):
    """The q, k, v projections of one attention and the attention itself.

    Scores are scaled by 1/sqrt(head width). ``keep_map = True`` computes the attention explicitly and keeps
    it in ``attention_map`` (B, heads, queries, keys) with its gradient; otherwise PyTorch's fused kernel runs, or,
    where few queries ask many tokens, an order of the products that needs fewer of them.
    """

    def __init__(self, width: int, heads: int, dropout: float, context_width: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"hidden_size {width} is not a multiple of num_heads {heads}")
        context_width = width if context_width is None else context_width
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(context_width, width)
        self.value = nn.Linear(context_width, width)
        self.causal = False  # whether a token sees itself and those before it alone
        self.keep_map = False
        self.attention_map: Tensor | None = None

    def split_heads(self, x: Tensor) -> Tensor:
        """(B, n, d) -> (B, heads, n, d / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor, x_layout: PaddedLayout, context_layout: PaddedLayout) -> Tensor:
        """x (B, n, d), context (B, m, c), stored as their layouts say -> as x; ``context_layout.mask`` hides keys."""
        q = self.split_heads(x_layout.pad(self.query(x)))
        mask = None if context_layout.mask is None else context_layout.mask[:, None, None, :]
        if self.causal:
            past = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril()
            mask = past if mask is None else mask & past
        may_reorder = context_layout.reorder and not self.keep_map
        if may_reorder and self.unprojected_is_cheaper(q.shape[2], *context.shape[1:]):
            attended = self.unprojected(q, context, mask)
        else:
            k, v = (self.split_heads(context_layout.pad(p(context))) for p in (self.key, self.value))
            attended = self.attend(q, k, v, mask)
        return x_layout.unpad(attended.transpose(1, 2).flatten(2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (B, h, n, d_h), k and v (B, h, m, d_h), mask to (B, h, n, m), True = seen -> (B, h, n, d_h)."""
        if self.keep_map:
            return self._explicit(q, k, v, mask)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)

    def unprojected_is_cheaper(self, n: int, m: int, c: int) -> bool:
        """Whether n queries of m tokens of width c cost fewer products without those tokens' keys and values."""
        width = self.query.out_features
        projected, unprojected = m * c * width + n * m * width, n * c * width + self.heads * n * m * c
        return unprojected < projected

    def unprojected(self, q: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """The same attention in another order: (q W_k) yᵀ for q (y W_kᵀ)ᵀ and (a y) W_vᵀ for a (y W_vᵀ).

        A caption's few queries are projected instead of an image's many tokens.
        q (B, h, n, d_h), context y (B, m, c) -> (B, h, n, d_h).
        """
        w_k, w_v = (_by_head(p.weight, self.heads) for p in (self.key, self.value))  # (h, d_h, c)
        b_k, b_v = (p.bias.unflatten(0, (self.heads, 1, -1)) for p in (self.key, self.value))  # (h, 1, d_h)
        asked = torch.einsum("bhnd,hdc->bhnc", q, w_k)
        scores = (asked.flatten(1, 2) @ context.transpose(1, 2)).unflatten(1, q.shape[1:3])
        weights = self._weights(scores + (q * b_k).sum(dim=-1, keepdim=True), mask)
        mixed = (weights.flatten(1, 2) @ context).unflatten(1, q.shape[1:3])
        return torch.einsum("bhnc,hdc->bhnd", mixed, w_v) + weights.sum(dim=-1, keepdim=True) * b_v

    def few_keys_are_cheaper(self, n: int, m: int) -> bool:
        """Whether n queries of m tokens and the dense layer behind them cost fewer products by :meth:`of_few_keys`."""
        width = self.query.out_features
        projected = 2 * n * width * width + 2 * n * m * width
        few = 2 * m * width * width + 2 * self.heads * n * m * width
        return few < projected

    def of_few_keys(self, x: Tensor, context: Tensor, context_layout: PaddedLayout, dense: nn.Linear) -> Tensor:
        """``dense`` of the attention in another order: x (k W_q)ᵀ for (x W_qᵀ) kᵀ and a (v W_oᵀ) for (a v) W_oᵀ.

        A caption's few keys and values are projected instead of an image's many queries.
        x (B, n, d), context stored as its layout says -> (B, n, d).
        """
        k, v = (p(context).unflatten(-1, (self.heads, -1)) for p in (self.key, self.value))  # (…, h, d_h)
        w_q, b_q = _by_head(self.query.weight, self.heads), self.query.bias.unflatten(0, (self.heads, -1))
        w_o = dense.weight.unflatten(1, (self.heads, -1))  # (d, h, d_h)
        asking = context_layout.pad(torch.einsum("...hd,hdc->...hc", k, w_q).flatten(-2))
        answers = context_layout.pad(torch.einsum("...hd,chd->...hc", v, w_o).flatten(-2))
        bias = context_layout.pad((k * b_q).sum(dim=-1))  # (B, m, h)
        size, m = asking.shape[:2]
        asking, answers = (t.view(size, m * self.heads, -1) for t in (asking, answers))
        scores = (x @ asking.transpose(1, 2)).unflatten(2, (m, self.heads)) + bias[:, None]  # (B, n, m, h)
        mask = None if context_layout.mask is None else context_layout.mask[:, None, :, None]
        weights = self._weights(scores, mask, over=2)
        return weights.flatten(2) @ answers + dense.bias

    def _weights(self, scores: Tensor, mask: Tensor | None, over: int = -1) -> Tensor:
        """Unscaled scores -> probabilities along ``over``, after dropout."""
        scores = scores / (self.query.out_features // self.heads) ** 0.5
        scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
        return F.dropout(scores.softmax(dim=over), self.dropout, self.training)

    def _explicit(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        self.attention_map = attention_weights(q, k, mask)
        if self.attention_map.requires_grad:
            self.attention_map.retain_grad()
        return F.dropout(self.attention_map, self.dropout, self.training) @ v


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """(d, c) -> (h, d_h, c)."""
    return weight.unflatten(0, (heads, -1))


class ResidualOutput(nn.Module):
    """dense -> dropout -> + residual -> LayerNorm, the end of every BERT block."""

    def __init__(self, width_in: int, width: int, dropout: float, layer_norm_eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=layer_norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """x (B, n, width_in), residual (B, n, width) -> (B, n, width)."""
        return self.after_dense(self.dense(x), residual)

    def after_dense(self, x: Tensor, residual: Tensor) -> Tensor:
        """What follows the dense layer, whose outputs x are (B, n, width)."""
        return self.LayerNorm(self.dropout(x) + residual)


class AttentionBlock(nn.Module):
    """Attention of ``x`` over ``context`` with residual and LayerNorm (keys ``self.*`` and ``output.*``)."""

    def __init__(
        self, width: int, heads: int, dropout: float, layer_norm_eps: float, context_width: int | None = None
    ) -> None:
        super().__init__()
        self.self = AttentionProjections(width, heads, dropout, context_width)
        self.output = ResidualOutput(width, width, dropout, layer_norm_eps)

    def forward(self, x: Tensor, context: Tensor, x_layout: PaddedLayout, context_layout: PaddedLayout) -> Tensor:
        """x (B, n, d), context (B, m, c), stored as their layouts say -> as x."""
        if self._few_keys(x, x_layout, context_layout):
            attended = self.self.of_few_keys(x, context, context_layout, self.output.dense)
            return self.output.after_dense(attended, x)
        return self.output(self.self(x, context, x_layout, context_layout), x)

    def _few_keys(self, x: Tensor, x_layout: PaddedLayout, context_layout: PaddedLayout) -> bool:
        if not x_layout.reorder or context_layout.mask is None or self.self.keep_map:
            return False
        return self.self.few_keys_are_cheaper(x.shape[1], context_layout.mask.shape[1])


class Intermediate(nn.Module):
    """The widening half of the feed-forward block: dense -> GELU (erf)."""

    def __init__(self, width: int, mlp_width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, width) -> (B, n, mlp_width)."""
        return F.gelu(self.dense(x))


class CoAttentionLayer(nn.Module):
    """One stream's half of a co-attention fusion layer (docs/official/meter.md §4.5, there BertCrossLayer).

    Self-attention over the own stream ``x``, cross-attention to the other stream's layer input ``y``,
    feed-forward; each with residual and LayerNorm.
    """

    def __init__(self, width: int, heads: int, mlp_width: int, dropout: float, layer_norm_eps: float = 1e-12) -> None:
        super().__init__()
        self.attention = AttentionBlock(width, heads, dropout, layer_norm_eps)
        self.crossattention = AttentionBlock(width, heads, dropout, layer_norm_eps)
        self.intermediate = Intermediate(width, mlp_width)
        self.output = ResidualOutput(mlp_width, width, dropout, layer_norm_eps)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        x_layout: PaddedLayout,
        y_layout: PaddedLayout,
        first_token_only: bool = False,
        read: QuerySubset | None = None,
    ) -> Tensor:
        """x (B, n, d), y (B, m, d), stored as their layouts say -> as x.

        ``first_token_only`` computes the output of token 0 alone, (B, 1, d), and ``read`` that of the queries in x,
        (K, d): the same numbers for less work where nothing else is read.
        """
        queries, query_layout = x, x_layout
        if first_token_only:
            queries, query_layout = x_layout.first(x), PaddedLayout()
        elif read is not None:
            queries, query_layout = read.select(x), read
        hidden = self.attention(queries, x, query_layout, x_layout)
        hidden = self.crossattention(hidden, y, query_layout, y_layout)
        return self.output(self.intermediate(hidden), hidden)


def init_std(width: int) -> float:
    """Standard deviation of initial weights: BERT's 0.02 at its width 768, and the same activations at any other.

    With 0.02 at width 128 attention starts so flat that matching learns nothing for hundreds of steps.
    """
    return 0.02 * (768 / width) ** 0.5


def init_weights(module: nn.Module, std: float) -> None:
    """BERT's initialisation (docs/official/meter.md §4.1): N(0, std) for Linear and Embedding, LayerNorm 1 and 0."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
