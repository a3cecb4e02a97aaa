"""Unpadded tokens and the packed text encoder against the padded computation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from tests.unit.meter.small import EOS, PAD, VOCAB, text_tower
from tests.unit.nn.test_attention import WIDTH, layer
from vlp.nn import packed_text
from vlp.nn.attention import AttentionProjections
from vlp.nn.packed_text import packed_text_states
from vlp.nn.padding import PaddedLayout, QuerySubset, UnpaddedLayout

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def mask_of(lengths: list[int], padding: int) -> Tensor:
    return torch.arange(max(lengths) + padding) < torch.tensor(lengths)[:, None]


@given(LENGTHS, st.integers(0, 4))
def test_packing_stores_the_valid_tokens_row_after_row(lengths: list[int], padding: int) -> None:
    mask = mask_of(lengths, padding)
    layout = UnpaddedLayout(mask)
    states = torch.randn(*mask.shape, 3)
    packed = layout.unpad(states)
    assert torch.equal(packed, torch.cat([states[b, :n] for b, n in enumerate(lengths)]))
    assert torch.equal(layout.pad(packed), states * mask[..., None])
    assert torch.equal(layout.first(packed), states[:, :1])


@given(LENGTHS, st.integers(0, 99))
def test_queries_are_stored_sentence_after_sentence_and_padded_again(lengths: list[int], seed: int) -> None:
    """Any number of each row, none too; padding is never one."""
    mask = mask_of(lengths, 2)
    layout, wanted = UnpaddedLayout(mask), torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.4
    queries = QuerySubset(layout, wanted)
    states = torch.randn(*mask.shape, 3)
    chosen = queries.select(layout.unpad(states))
    assert torch.equal(chosen, states[wanted & mask])
    assert torch.equal(queries.pad_into(chosen, layout), states * (wanted & mask)[..., None])
    for row, of_row in enumerate(wanted & mask):
        assert torch.equal(queries.pad(chosen)[row, : int(of_row.sum())], states[row, of_row])
    assert torch.equal(queries.unpad(queries.pad(chosen)), chosen)


@settings(max_examples=15, deadline=None)
@given(LENGTHS, LENGTHS, st.booleans(), st.integers(0, 9))
def test_a_layer_over_packed_rows_is_the_layer_over_padded_ones(
    x_lengths: list[int], y_lengths: list[int], first_token_only: bool, seed: int
) -> None:
    """Outputs and gradients, whichever of the two streams is packed."""
    size = min(len(x_lengths), len(y_lengths))
    co, x_mask, y_mask = layer(seed), mask_of(x_lengths[:size], 2), mask_of(y_lengths[:size], 1)
    x, y = (torch.randn(*m.shape, WIDTH, dtype=torch.float64) for m in (x_mask, y_mask))
    results = []
    for x_layout, y_layout in (
        (PaddedLayout, PaddedLayout),
        (UnpaddedLayout, PaddedLayout),
        (PaddedLayout, UnpaddedLayout),
        (UnpaddedLayout, UnpaddedLayout),
    ):
        stored = x_layout(x_mask), y_layout(y_mask)
        inputs = [t.clone().requires_grad_() for t in (x, y)]
        out = co(*(r.unpad(t) for r, t in zip(stored, inputs, strict=True)), *stored, first_token_only)
        valid = out if first_token_only else stored[0].pad(out) * x_mask[..., None]
        valid.pow(3).sum().backward()
        gradients = [t.grad for t in inputs if t.grad is not None]
        results.append([valid, *(g * m[..., None] for g, m in zip(gradients, (x_mask, y_mask), strict=True))])
    for packed in results[1:]:
        assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(results[0], packed, strict=True))


def encoder_of(family: str) -> PreTrainedModel:
    torch.manual_seed(0)
    encoder = text_tower(family, num_hidden_layers=2, max_position_embeddings=60).double().eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


@pytest.mark.parametrize("tokens_per_row", [1, 11, 128])
@pytest.mark.parametrize("family", ["roberta", "bert"])
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9), padding=st.integers(0, 4), seed=st.integers(0, 99))
def test_the_packed_encoder_is_the_encoder(
    family: str, tokens_per_row: int, lengths: list[int], padding: int, seed: int
) -> None:
    """States and gradients, for any lengths, also with a padding id inside a sentence (MLM draws one at times)."""
    encoder, mask = encoder_of(family), mask_of(lengths, padding)
    ids = torch.randint(0, VOCAB, mask.shape, generator=torch.Generator().manual_seed(seed))
    ids[:, 0] = EOS
    ids = ids.masked_fill(~mask, PAD)
    weights = torch.randn(*mask.shape, 16, dtype=torch.float64) * mask[..., None]
    expected = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state * mask[..., None]
    (expected * weights).sum().backward()
    wanted = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    layout = UnpaddedLayout(mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_text, "TOKENS_PER_ROW", tokens_per_row)
        states = layout.pad(packed_text_states(encoder, ids, layout))
    assert torch.allclose(states, expected, atol=1e-8)
    (states * weights).sum().backward()
    for name, gradient in wanted.items():
        got = encoder.get_parameter(name).grad
        assert got is not None and torch.allclose(got, gradient, atol=1e-8), name


def test_rows_of_the_encoder_are_filled_evenly() -> None:
    """Captions of real lengths waste little of a row."""
    generator = torch.Generator().manual_seed(0)
    lengths = (torch.randn(32, generator=generator) * 6 + 16).clamp(5, 40).long().tolist()
    layout = UnpaddedLayout(mask_of(lengths, 0))
    slot, count, length = packed_text._places(layout)
    assert len(set(slot.tolist())) == sum(lengths)
    assert count * length < 1.1 * sum(lengths)


# Attention in the cheaper order --------------------------------------------------------------------------


def attention_of(context_width: int = WIDTH, dropout: float = 0.0) -> AttentionProjections:
    attention = AttentionProjections(WIDTH, 2, dropout, context_width).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return attention


def outcome(
    attention: AttentionProjections, x: Tensor, context: Tensor, x_layout: PaddedLayout, layout: PaddedLayout
) -> list[Tensor]:
    """Output and all gradients, with the same units dropped at every call."""
    attention.zero_grad()
    torch.manual_seed(7)
    x, context = x.clone().requires_grad_(), context.clone().requires_grad_()
    out = attention(x, context, x_layout, layout)
    out.pow(3).sum().backward()
    return [out, *(t.grad for t in (x, context, *attention.parameters()) if t.grad is not None)]


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 4),
    m=st.integers(8, 20),
    context_width=st.sampled_from([WIDTH, 5]),
    dropout=st.sampled_from([0.0, 0.4]),
    hidden=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_other_order_is_the_same_attention(
    n: int, m: int, context_width: int, dropout: float, hidden: bool, seed: int
) -> None:
    """Against explicit keys and values: outputs, gradients, masks, and which units are dropped."""
    torch.manual_seed(seed)
    attention = attention_of(context_width, dropout)
    x, context = torch.randn(3, n, WIDTH).double(), torch.randn(3, m, context_width).double()
    mask = (torch.arange(m) < torch.randint(1, m + 1, (3, 1))) if hidden else None
    attention.keep_map = True
    expected = outcome(attention, x, context, PaddedLayout(), PaddedLayout(mask))
    attention.keep_map = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AttentionProjections, "_unprojected_is_cheaper", lambda *_: True)
        got = outcome(attention, x, context, PaddedLayout(), PaddedLayout(mask, reorder=True))
    assert len(expected) == len(got) == 2 + 1 + 6
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(expected, got, strict=True))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 12), m=st.integers(1, 40))
def test_the_order_that_is_taken_needs_fewest_products(n: int, m: int) -> None:
    attention = attention_of()
    x, context = torch.randn(2, n, WIDTH).double(), torch.randn(2, m, WIDTH).double()

    def products(*choice: bool) -> int:
        with pytest.MonkeyPatch.context() as patch, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as c:
            if choice:
                patch.setattr(AttentionProjections, "_unprojected_is_cheaper", lambda *_: choice[0])
            attention(x, context, PaddedLayout(), PaddedLayout(reorder=True))
        return c.get_total_flops()

    assert products() == min(products(True), products(False))


def test_without_leave_the_order_stays() -> None:
    """The plain computation, against which the savings are measured, projects every token."""
    attention = attention_of()
    seen: list[int] = []
    attention.key.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    x, context = torch.randn(2, 1, WIDTH).double(), torch.randn(2, 50, WIDTH).double()
    attention(x, context, PaddedLayout(), PaddedLayout(reorder=True))
    assert not seen
    attention(x, context, PaddedLayout(), PaddedLayout())
    assert seen == [50]
