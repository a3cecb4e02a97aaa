"""The text and fusion encoder of ALBEF and X-VLM: a BERT whose upper layers also attend to an image.

Layers below ``fusion_layer`` read text alone; each layer from there on has a cross-attention between self-attention and
feed-forward block. Names are those of BERT checkpoints, with ``crossattention`` beside ``attention``.

Source: docs/official/albef.md §4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vlp.nn.attention import AttentionBlock, Intermediate, ResidualOutput, init_weights
from vlp.nn.cross_attention import CrossAttentionBlock, CrossAttentionProjections, Seen
from vlp.nn.heads import PredictionTransform
from vlp.nn.padding import PaddedLayout, Queries, QuerySubset

BertSizes = Mapping[str, Any]  # the content of a ``bert_config`` file


class TextEmbeddings(nn.Module):
    """Words, positions and token type 0, normalised."""

    def __init__(self, sizes: BertSizes) -> None:
        super().__init__()
        width, places = sizes["hidden_size"], sizes["max_position_embeddings"]
        # Officially a buffer that checkpoints hold.
        self.register_buffer("position_ids", torch.arange(places)[None])
        self.word_embeddings = nn.Embedding(sizes["vocab_size"], width, padding_idx=sizes["pad_token_id"])
        self.position_embeddings = nn.Embedding(places, width)
        self.token_type_embeddings = nn.Embedding(sizes["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, eps=sizes["layer_norm_eps"])
        self.dropout = nn.Dropout(sizes["hidden_dropout_prob"])

    def forward(self, ids: Tensor, layout: PaddedLayout) -> Tensor:
        """ids (R, n) -> states, stored as the layout says."""
        places = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return self.embed(*(layout.unpad(each[..., None]).squeeze(-1) for each in (ids, places)))

    def embed(self, ids: Tensor, places: Tensor) -> Tensor:
        """Tokens (…) at places (…) of their sentences -> (…, d)."""
        states = self.word_embeddings(ids) + self.token_type_embeddings.weight[0] + self.position_embeddings(places)
        return self.dropout(self.LayerNorm(states))


class FusionLayer(nn.Module):
    """Self-attention over the text, in a fusion layer cross-attention to the image, feed-forward; all post-norm."""

    def __init__(self, sizes: BertSizes, fuses: bool, causal: bool = False) -> None:
        super().__init__()
        width, heads, eps = sizes["hidden_size"], sizes["num_attention_heads"], sizes["layer_norm_eps"]
        drop, drop_attention = sizes["hidden_dropout_prob"], sizes["attention_probs_dropout_prob"]
        self.attention = AttentionBlock(width, heads, drop, eps)
        self.attention.self.dropout, self.attention.self.causal = drop_attention, causal
        if fuses:
            projections = CrossAttentionProjections(width, heads, drop_attention, sizes["encoder_width"])
            self.crossattention = CrossAttentionBlock(projections, ResidualOutput(width, width, drop, eps))
        self.intermediate = Intermediate(width, sizes["intermediate_size"])
        self.output = ResidualOutput(sizes["intermediate_size"], width, drop, eps)

    def forward(
        self,
        x: Tensor,
        layout: PaddedLayout,
        images: Tensor | None = None,
        seen: Seen | None = None,
        read: QuerySubset | None = None,
    ) -> Tensor:
        """x, R sentences stored as the layout says -> as x; with ``read`` the states of those queries alone, (K, d).

        A fusion layer attends to images (I, N, c), each sentence to the one that ``seen`` names.
        """
        queries, of_queries = (x, layout) if read is None else (read.select(x), read)
        hidden = self.attention(queries, x, of_queries, layout)
        if images is not None and seen is not None:
            hidden = self.crossattention(hidden, of_queries, images, seen)
        return self.output(self.intermediate(hidden), hidden)


class FusionEncoder(nn.Module):
    """The encoder in its three modes: text alone, fusion of given states, and both (docs/official/albef.md §4).

    Args:
        sizes: the content of a ``bert_config`` file.
        causal: every token sees itself and those before it (VQA's answer decoder).
    """

    def __init__(self, sizes: BertSizes, causal: bool = False) -> None:
        super().__init__()
        self.fusion_layer: int = sizes["fusion_layer"]
        self.gradient_checkpointing = False
        self.embeddings = TextEmbeddings(sizes)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(
            FusionLayer(sizes, i >= self.fusion_layer, causal) for i in range(sizes["num_hidden_layers"])
        )
        self.apply(partial(init_weights, std=sizes["initializer_range"]))
        with torch.no_grad():
            self.embeddings.word_embeddings.weight[sizes["pad_token_id"]] = 0

    @property
    def layers(self) -> nn.ModuleList:
        """All layers, those of the text first."""
        layers = self.encoder.layer
        assert isinstance(layers, nn.ModuleList)
        return layers

    def text(self, ids: Tensor, layout: PaddedLayout) -> Tensor:
        """ids (R, n) -> the states below the fusion layers, stored as the layout says."""
        x = self.embeddings(ids, layout)
        for layer in self.layers[: self.fusion_layer]:
            x = self._run(layer, x, layout)
        return x

    def fuse(
        self,
        x: Tensor,
        layout: PaddedLayout,
        images: Tensor | list[Tensor],
        seen: Seen,
        read: QuerySubset | None = None,
        start: int | None = None,
        stop: int | None = None,
    ) -> Tensor:
        """The fusion layers over x, R sentences stored as the layout says -> as x, or (K, d) of what is ``read``.

        Args:
            images: (I, N, c); of a list the fusion layers take one after the other, over and over (NLVR2).
            seen: the image of each sentence.
            read: the queries of the last layer whose states are wanted, if not all are.
            start, stop: the first layer, and the one after the last; by default all fusion layers.
        """
        several = images if isinstance(images, list) else [images]
        last = len(self.layers) - 1
        for i in range(len(self.layers))[self.fusion_layer if start is None else start : stop]:
            of_layer = several[(i - self.fusion_layer) % len(several)]
            x = self._run(self.layers[i], x, layout, of_layer, seen, read if i == last else None)
        return x

    def forward(
        self,
        ids: Tensor,
        layout: PaddedLayout,
        images: Tensor | list[Tensor],
        seen: Seen,
        read: QuerySubset | None = None,
    ) -> Tensor:
        """Text and fusion layers in one go ("multi_modal"): ids (R, n) -> what :meth:`fuse` gives."""
        return self.fuse(self.text(ids, layout), layout, images, seen, read)

    def first_states(self, ids: Tensor, layout: PaddedLayout, images: Tensor | list[Tensor]) -> Tensor:
        """What heads read: the last states of token 0 of R sentences, each with its own image, (R, d)."""
        assert layout.mask is not None
        return self(ids, layout, images, Seen(), QuerySubset(layout, Queries.first(layout.mask)))

    def query_key(
        self,
        x: Tensor,
        layout: PaddedLayout,
        images: Tensor,
        seen: Seen,
        layer: int = -2,
        start: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What Eq. 8 of EPIC reads of one fusion layer; its cross-attention itself is not computed.

        Args:
            x: the states below the fusion layers, or below layer ``start``.
            layer: of all layers; -2 is the penultimate.

        Returns:
            Keys of image token 0, (I, h, d_h); queries of the text, (R, h, n, d_h), after the layer's self-attention.
        """
        index = range(len(self.layers))[layer]
        x = self.fuse(x, layout, images, seen, start=start, stop=index)
        block: Any = self.layers[index]
        cross: CrossAttentionProjections = block.crossattention.self
        queries = layout.pad(cross.query(block.attention(x, x, layout, layout)))
        return cross.key(images[:, 0]).unflatten(-1, (cross.heads, -1)), cross.split_heads(queries)

    def _run(self, layer: nn.Module, *inputs: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)


class MaskedLMPredictions(nn.Module):
    """Vocabulary logits; the decoder's weight is that of the word embeddings, its bias has two official names."""

    def __init__(self, sizes: BertSizes, word_embeddings: nn.Embedding) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(sizes["vocab_size"]))
        self.transform = PredictionTransform(sizes["hidden_size"], sizes["layer_norm_eps"])
        self.decoder = nn.Linear(sizes["hidden_size"], sizes["vocab_size"])
        self.apply(partial(init_weights, std=sizes["initializer_range"]))
        self.decoder.weight, self.decoder.bias = word_embeddings.weight, self.bias

    def forward(self, states: Tensor) -> Tensor:
        """(…, d) -> (…, vocab)."""
        return self.decoder(self.transform(states))


class FusionMaskedLM(nn.Module):
    """The encoder with a language-modelling head: ``bert`` and ``cls.predictions``."""

    def __init__(self, sizes: BertSizes, causal: bool = False) -> None:
        super().__init__()
        self.bert = FusionEncoder(sizes, causal)
        self.cls = nn.ModuleDict({"predictions": MaskedLMPredictions(sizes, self.bert.embeddings.word_embeddings)})

    def logits(self, states: Tensor) -> Tensor:
        """Last states (…, d) -> vocabulary logits (…, vocab)."""
        return self.cls["predictions"](states)
