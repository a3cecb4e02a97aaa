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
from vlp.nn.attention import AttentionBlock, AttentionProjections
from vlp.nn.packed_text import TextLayout, TextPlan, encode_packed, encode_text_states
from vlp.nn.padding import PaddedLayout, Queries, QuerySubset, TokenPlan, UnpaddedLayout, spread

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def mask_of(lengths: list[int], padding: int) -> Tensor:
    return torch.arange(max(lengths) + padding) < torch.tensor(lengths)[:, None]


def unpadded(mask: Tensor) -> PaddedLayout:
    return UnpaddedLayout(TokenPlan.of(mask))


@given(LENGTHS, st.integers(0, 4))
def test_packing_stores_the_valid_tokens_row_after_row(lengths: list[int], padding: int) -> None:
    mask = mask_of(lengths, padding)
    layout = UnpaddedLayout(TokenPlan.of(mask))
    states = torch.randn(*mask.shape, 3)
    packed = layout.unpad(states)
    assert torch.equal(packed, torch.cat([states[b, :n] for b, n in enumerate(lengths)]))
    assert torch.equal(layout.pad(packed), states * mask[..., None])
    assert torch.equal(layout.first(packed), states[:, :1])


@given(LENGTHS, st.integers(0, 99), st.booleans())
def test_queries_are_stored_sentence_after_sentence_and_padded_again(
    lengths: list[int], seed: int, packed: bool
) -> None:
    """Any number of each row, none too."""
    mask = mask_of(lengths, 2)
    wanted = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.4)
    layout: PaddedLayout = UnpaddedLayout(TokenPlan.of(mask)) if packed else PaddedLayout(mask)
    queries = QuerySubset(layout, Queries.of(wanted))
    states = torch.randn(*mask.shape, 3)
    chosen = queries.select(layout.unpad(states))
    assert torch.equal(chosen, states[wanted])
    assert torch.equal(spread(chosen, queries.queries, mask.shape), states * wanted[..., None])
    for row, of_row in enumerate(wanted):
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
        (unpadded, PaddedLayout),
        (PaddedLayout, unpadded),
        (unpadded, unpadded),
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_text, "TOKENS_PER_ROW", tokens_per_row)
        states = encode_packed(encoder, ids, mask)
    assert torch.allclose(states, expected, atol=1e-8)
    (states * weights).sum().backward()
    for name, gradient in wanted.items():
        got = encoder.get_parameter(name).grad
        assert got is not None and torch.allclose(got, gradient, atol=1e-8), name


@settings(max_examples=10, deadline=None)
@given(st.lists(LENGTHS, min_size=2, max_size=3), st.integers(0, 99))
def test_several_batches_go_through_the_encoder_as_one(batches: list[list[int]], seed: int) -> None:
    """Each batch's numbers are those that it has alone; their rows may be of other lengths."""
    encoder, n = encoder_of("roberta"), max(map(max, batches))
    masks = [mask_of(lengths, n - max(lengths)) for lengths in batches]
    rng = torch.Generator().manual_seed(seed)
    ids = [torch.randint(4, VOCAB, mask.shape, generator=rng).masked_fill(~mask, PAD) for mask in masks]
    together = TextLayout(TextPlan.together([TextPlan.of(mask) for mask in masks]))
    got = together.pad(encode_text_states(encoder, torch.cat(ids), together))
    alone = [encode_packed(encoder, i, mask) for i, mask in zip(ids, masks, strict=True)]
    assert torch.allclose(got, torch.cat(alone), atol=1e-10)


def test_rows_of_the_encoder_are_filled_evenly() -> None:
    """Captions of real lengths waste little of a row."""
    generator = torch.Generator().manual_seed(0)
    lengths = (torch.randn(32, generator=generator) * 6 + 16).clamp(5, 40).long().tolist()
    plan = TextPlan.of(mask_of(lengths, 0))
    assert len(set(plan.slot.tolist())) == sum(lengths)
    assert plan.rows * plan.row_length < 1.1 * sum(lengths)


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
        patch.setattr(AttentionProjections, "unprojected_is_cheaper", lambda *_: True)
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
                patch.setattr(AttentionProjections, "unprojected_is_cheaper", lambda *_: choice[0])
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


# Attention of many queries to few tokens -----------------------------------------------------------------


def block_of(dropout: float = 0.0) -> AttentionBlock:
    block = AttentionBlock(WIDTH, 2, dropout, 1e-12, 5).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_few_keys_are_projected_instead_of_many_queries(lengths: list[int], n: int, packed: bool, seed: int) -> None:
    """The same block, outputs and all gradients, whichever way its few tokens are stored."""
    torch.manual_seed(seed)
    block, mask = block_of(), mask_of(lengths, 2)
    x, y = torch.randn(len(lengths), n, WIDTH).double(), torch.randn(*mask.shape, 5).double()
    layout = unpadded(mask) if packed else PaddedLayout(mask)
    results = []
    for few in (False, True):
        block.zero_grad()
        inputs = [t.clone().requires_grad_() for t in (x, y)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AttentionProjections, "few_keys_are_cheaper", lambda *_, few=few: few)
            out = block(inputs[0], layout.unpad(inputs[1]), PaddedLayout(reorder=True), layout)
        out.pow(3).sum().backward()
        inputs[1].grad *= mask[..., None]  # type: ignore[operator]
        results.append([out, *(t.grad for t in (*inputs, *block.parameters()))])
    for plain, other in zip(*results, strict=True):
        assert plain is not None and other is not None
        assert torch.allclose(plain, other, atol=1e-9, rtol=1e-7)


def test_dropped_probabilities_are_scaled_in_the_other_order_too() -> None:
    """The mean over many draws is the output without dropout."""
    torch.manual_seed(0)
    block, mask = block_of(dropout=0.3), mask_of([3], 0)
    x, y = torch.randn(1, 2, WIDTH).double(), torch.randn(1, 3, 5).double()
    attention, dense = block.self, block.output.dense
    drawn = [attention.of_few_keys(x, y, PaddedLayout(mask), dense) for _ in range(4000)]
    expected = attention.eval().of_few_keys(x, y, PaddedLayout(mask), dense)
    spread_of_mean = torch.stack(drawn).std(dim=0) / 4000**0.5
    assert ((torch.stack(drawn).mean(dim=0) - expected).abs() < 5 * spread_of_mean + 1e-9).all()
    assert drawn[0].ne(drawn[1]).any()


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 40), m=st.integers(1, 12))
def test_the_blocks_order_needs_fewest_products(n: int, m: int) -> None:
    block = block_of()
    x, y, layout = torch.randn(2, n, WIDTH).double(), torch.randn(2, m, 5).double(), PaddedLayout(mask_of([m, m], 0))

    def products(*choice: bool) -> int:
        with pytest.MonkeyPatch.context() as patch, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as c:
            if choice:
                patch.setattr(AttentionProjections, "few_keys_are_cheaper", lambda *_: choice[0])
            block(x, y, PaddedLayout(reorder=True), layout)
        return c.get_total_flops()

    assert products() == min(products(True), products(False))


def test_without_leave_queries_are_projected() -> None:
    block, seen = block_of(), list[int]()
    block.self.query.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    x, y, layout = torch.randn(2, 50, WIDTH).double(), torch.randn(2, 1, 5).double(), PaddedLayout(mask_of([1, 1], 0))
    block(x, y, PaddedLayout(reorder=True), layout)
    assert not seen
    block(x, y, PaddedLayout(), layout)
    assert seen == [50]
