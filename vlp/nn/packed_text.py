"""Run a BERT or RoBERTa encoder without its padding: several sentences share a row, each attending to itself alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vlp.nn.padding import PaddedLayout, TokenPlan, UnpaddedLayout

# Longer rows waste attention between sentences, shorter ones fit worse: the rest of a row is padding again.
TOKENS_PER_ROW = 128


class TextPlan(NamedTuple):
    """What the lengths of B sentences decide: where their T tokens stand, and where they go in an encoder's rows."""

    tokens: TokenPlan
    slot: Tensor  # (T,) int64, places in rows of equal length
    rows: int
    row_length: int

    @classmethod
    def of(cls, mask: Tensor) -> TextPlan:
        """Of mask (B, n), 1 = a valid token; the host reads two numbers."""
        tokens = TokenPlan.of(mask)
        return cls(tokens, *_places(tokens))

    @classmethod
    def together(cls, plans: Sequence[TextPlan]) -> TextPlan:
        """Several batches of one n as one batch; every batch keeps its rows."""
        length = max(plan.row_length for plan in plans)
        starts = [sum(plan.rows for plan in plans[:i]) for i in range(len(plans))]
        slots = [
            (plan.slot // plan.row_length + start) * length + plan.slot % plan.row_length
            for plan, start in zip(plans, starts, strict=True)
        ]
        tokens = TokenPlan.together([plan.tokens for plan in plans])
        return cls(tokens, torch.cat(slots), sum(plan.rows for plan in plans), length)


class TextLayout(UnpaddedLayout):
    """Sentences without padding, and how an encoder packs them."""

    def __init__(self, plan: TextPlan) -> None:
        super().__init__(plan.tokens)
        self.packing = plan


def text_layout(plan: TextPlan, packed: bool) -> PaddedLayout:
    """How the sentences of a plan are stored: without padding if ``packed`` (the key ``pack_text``)."""
    return TextLayout(plan) if packed else PaddedLayout(plan.tokens.mask)


def encode_text_states(encoder: PreTrainedModel, ids: Tensor, layout: PaddedLayout) -> Tensor:
    """The encoder's last hidden states of ids (B, n), stored as the layout says; what stands at padding is not read.

    Of a :class:`TextLayout` the valid tokens alone are computed, and the numbers are those of
    ``encoder(input_ids=ids, attention_mask=mask)``: same positions, same neighbours.
    """
    if isinstance(layout, TextLayout):
        return _packed(encoder, ids, layout)
    assert layout.mask is not None
    return encoder(input_ids=ids, attention_mask=layout.mask.long()).last_hidden_state


def encode_packed(encoder: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """ids (B, n), mask (B, n), 1 = valid -> the encoder's last hidden states (B, n, d), zeros at padding."""
    layout = TextLayout(TextPlan.of(mask))
    return layout.pad(encode_text_states(encoder, ids, layout))


def _packed(encoder: PreTrainedModel, ids: Tensor, layout: TextLayout) -> Tensor:
    plan, index = layout.packing, layout.index

    def laid_out(per_token: Tensor, fill: int) -> Tensor:
        flat = per_token.new_full((plan.rows * plan.row_length,), fill)
        return flat.index_copy(0, plan.slot, per_token).view(plan.rows, plan.row_length)

    sentences = laid_out(plan.tokens.row, -1)
    pad = encoder.config.pad_token_id or 0
    token_ids = laid_out(ids.flatten().index_select(0, index), pad)
    positions = laid_out(_positions(encoder, ids).flatten().index_select(0, index), pad)
    # Token types are given: those that older versions of transformers fill in end at the model's number of positions.
    types = torch.zeros_like(token_ids)
    states = encoder.get_submodule("embeddings")(input_ids=token_ids, token_type_ids=types, position_ids=positions)
    of_other_sentences = sentences[:, None, :, None] != sentences[:, None, None, :]
    # Added to the scores: the one form of mask that every attention of transformers takes.
    mask = torch.zeros_like(of_other_sentences, dtype=states.dtype).masked_fill(
        of_other_sentences, torch.finfo(states.dtype).min
    )
    states = encoder.get_submodule("encoder")(states, attention_mask=mask).last_hidden_state
    return states.flatten(0, 1).index_select(0, plan.slot)


def _positions(encoder: PreTrainedModel, ids: Tensor) -> Tensor:
    """Position ids (B, n): BERT counts from 0, RoBERTa counts the tokens that are not padding from pad_id + 1."""
    if encoder.config.model_type == "bert":
        return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    pad = encoder.config.pad_token_id
    real = ids.ne(pad).long()
    return real.cumsum(dim=1) * real + pad


def _places(tokens: TokenPlan) -> tuple[Tensor, int, int]:
    """Where every valid token goes: (T,) places in rows of equal length, the number of rows, their length.

    Sentences are dealt out to the rows by falling length, forth and back, so that the rows come out alike.
    """
    lengths, size = tokens.mask.sum(dim=1), len(tokens.mask)
    row_count = min(max(round(len(tokens.row) / TOKENS_PER_ROW), 1), size)
    rounds = -(-size // row_count)
    order = lengths.argsort(descending=True, stable=True)
    dealt = lengths.new_zeros(rounds * row_count)
    dealt[:size] = lengths[order]
    dealt = dealt.view(rounds, row_count)
    dealt[1::2] = dealt[1::2].flip(1)
    start = dealt.cumsum(dim=0) - dealt
    row = torch.arange(row_count, device=lengths.device).repeat(rounds, 1)
    start[1::2], row[1::2] = start[1::2].flip(1), row[1::2].flip(1)
    row_length = int(dealt.sum(dim=0).max())
    begin = torch.empty_like(lengths)
    begin[order] = (row * row_length + start).flatten()[:size]
    return begin[tokens.row] + tokens.place, row_count, row_length
