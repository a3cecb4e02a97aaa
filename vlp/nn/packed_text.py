"""Run a BERT or RoBERTa encoder without its padding: several sentences share a row, each attending to itself alone."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vlp.nn.padding import UnpaddedLayout

# Longer rows waste attention between sentences, shorter ones fit worse: the rest of a row is padding again.
TOKENS_PER_ROW = 128


def encode_packed(encoder: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """ids (B, n), mask (B, n), 1 = valid -> the encoder's last hidden states (B, n, d), zeros at padding."""
    layout = UnpaddedLayout(mask)
    return layout.pad(packed_text_states(encoder, ids, layout))


def packed_text_states(encoder: PreTrainedModel, ids: Tensor, layout: UnpaddedLayout) -> Tensor:
    """The encoder's last hidden states of the valid tokens of ids (B, n) -> (T, d).

    The numbers are those of ``encoder(input_ids=ids, attention_mask=mask)``: same positions, same neighbours.
    """
    slot, row_count, row_length = _places(layout)

    def laid_out(per_token: Tensor, fill: int) -> Tensor:
        flat = per_token.new_full((row_count * row_length,), fill)
        return flat.index_copy(0, slot, per_token.flatten()[layout.index]).view(row_count, row_length)

    sentence = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    sentences = laid_out(sentence, -1)
    pad = encoder.config.pad_token_id or 0
    token_ids, positions = laid_out(ids, pad), laid_out(_positions(encoder, ids), pad)
    # Token types are given: those that older versions of transformers fill in end at the model's number of positions.
    types = torch.zeros_like(token_ids)
    states = encoder.get_submodule("embeddings")(input_ids=token_ids, token_type_ids=types, position_ids=positions)
    of_other_sentences = sentences[:, None, :, None] != sentences[:, None, None, :]
    # Added to the scores: the one form of mask that every attention of transformers takes.
    mask = torch.zeros_like(of_other_sentences, dtype=states.dtype).masked_fill(
        of_other_sentences, torch.finfo(states.dtype).min
    )
    states = encoder.get_submodule("encoder")(states, attention_mask=mask).last_hidden_state
    return states.flatten(0, 1).index_select(0, slot)


def _positions(encoder: PreTrainedModel, ids: Tensor) -> Tensor:
    """Position ids (B, n): BERT counts from 0, RoBERTa counts the tokens that are not padding from pad_id + 1."""
    if encoder.config.model_type == "bert":
        return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    pad = encoder.config.pad_token_id
    real = ids.ne(pad).long()
    return real.cumsum(dim=1) * real + pad


def _places(layout: UnpaddedLayout) -> tuple[Tensor, int, int]:
    """Where every valid token goes: (T,) places in rows of equal length, the number of rows, their length.

    Sentences are dealt out to the rows by falling length, forth and back, so that the rows come out alike.
    """
    lengths, size = layout.lengths, len(layout.lengths)
    row_count = min(max(round(len(layout.index) / TOKENS_PER_ROW), 1), size)
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
    offset = torch.arange(layout.mask.shape[1], device=lengths.device)
    return (begin[:, None] + offset).flatten()[layout.index], row_count, row_length
