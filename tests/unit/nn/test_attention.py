"""The co-attention layer (docs/official/meter.md §4.5) against its formula, and the two ways in which it saves work."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vlp.nn.attention import AttentionProjections, CoAttentionLayer, init_weights
from vlp.nn.heads import ITMHead, MLMHead, Pooler
from vlp.nn.padding import PaddedLayout

WIDTH, HEADS = 8, 2
SIZES = {"batch": st.integers(1, 3), "n": st.integers(1, 5), "m": st.integers(1, 5), "seed": st.integers(0, 99)}


def layer(seed: int, dropout: float = 0.0) -> CoAttentionLayer:
    torch.manual_seed(seed)
    made = CoAttentionLayer(WIDTH, HEADS, 2 * WIDTH, dropout)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made.double().eval()


def streams(batch: int, n: int, m: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (B, n, d), y (B, m, d) and their masks, at least one valid position in each row."""
    rng = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(batch, length, WIDTH, generator=rng, dtype=torch.float64) for length in (n, m))
    lengths = [torch.randint(1, length + 1, (batch, 1), generator=rng) for length in (n, m)]
    x_mask, y_mask = (torch.arange(size) < length for size, length in zip((n, m), lengths, strict=True))
    return x, y, x_mask, y_mask


def attend(block: AttentionProjections, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
    """Multi-head attention, one query and one head at a time."""
    q, k, v = block.query(x), block.key(context), block.value(context)
    out = torch.zeros_like(x)
    size = WIDTH // HEADS
    for b in range(len(x)):
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            for i in range(x.shape[1]):
                scores = torch.tensor(
                    [float(q[b, i, part] @ k[b, j, part]) / size**0.5 for j in range(context.shape[1])]
                )
                weights = (scores.double().exp() * mask[b]) / (scores.double().exp() * mask[b]).sum()
                out[b, i, part] = weights @ v[b, :, part]
    return out


def norm(x: Tensor, module: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt() * module.weight + module.bias


@torch.no_grad()
@settings(max_examples=10, deadline=None)
@given(**SIZES)
def test_the_layer_is_its_formula(batch: int, n: int, m: int, seed: int) -> None:
    co, (x, y, x_mask, y_mask) = layer(seed), streams(batch, n, m, seed)
    hidden = x
    for block, context, mask in ((co.attention, x, x_mask), (co.crossattention, y, y_mask)):
        attended = block.output.dense(attend(block.self, hidden, context, mask))
        hidden = norm(attended + hidden, block.output.LayerNorm)
    widened = co.intermediate.dense(hidden)
    widened = widened * 0.5 * (1 + torch.erf(widened / 2**0.5))
    expected = norm(co.output.dense(widened) + hidden, co.output.LayerNorm)
    assert torch.allclose(co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask)), expected, atol=1e-6)


def keep_maps(co: CoAttentionLayer) -> list[AttentionProjections]:
    attentions = [co.attention.self, co.crossattention.self]
    for attention in attentions:
        attention.keep_map = True
    return attentions


@settings(max_examples=15, deadline=None)
@given(**SIZES)
def test_keeping_the_map_changes_neither_output_nor_gradient(batch: int, n: int, m: int, seed: int) -> None:
    co, (x, y, x_mask, y_mask) = layer(seed), streams(batch, n, m, seed)
    fused = co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask))
    fused.pow(2).sum().backward()
    gradients = [p.grad.clone() for p in co.parameters() if p.grad is not None]
    co.zero_grad()
    own, cross = keep_maps(co)
    explicit = co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask))
    explicit.pow(2).sum().backward()
    assert torch.allclose(fused, explicit, atol=1e-10)
    for before, p in zip(gradients, co.parameters(), strict=True):
        assert p.grad is not None and torch.allclose(before, p.grad, atol=1e-8)
    for attention, queries, keys, mask in ((own, n, n, x_mask), (cross, n, m, y_mask)):
        kept = attention.attention_map
        assert kept is not None and kept.shape == (batch, HEADS, queries, keys)
        assert torch.allclose(kept.sum(-1), torch.ones(batch, HEADS, queries, dtype=torch.float64))
        assert (kept.masked_select(~mask[:, None, None, :]) == 0).all()
        assert kept.grad is not None  # Grad-CAM reads it


@torch.no_grad()
@settings(max_examples=15, deadline=None)
@given(**SIZES)
def test_the_first_token_alone_is_row_0(batch: int, n: int, m: int, seed: int) -> None:
    co, (x, y, x_mask, y_mask) = layer(seed), streams(batch, n, m, seed)
    alone = co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask), first_token_only=True)
    assert alone.shape == (batch, 1, WIDTH)
    assert torch.allclose(alone, co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask))[:, :1], atol=1e-12)


@torch.no_grad()
@settings(max_examples=15, deadline=None)
@given(**SIZES)
def test_padding_has_no_influence(batch: int, n: int, m: int, seed: int) -> None:
    co, (x, y, x_mask, y_mask) = layer(seed), streams(batch, n, m, seed)
    before = co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask))
    x, y = (torch.where(mask[..., None], t, 100 * torch.randn_like(t)) for t, mask in ((x, x_mask), (y, y_mask)))
    after = co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask))
    assert torch.allclose(before[x_mask], after[x_mask], atol=1e-12)


def test_what_is_not_masked_has_influence() -> None:
    co, (x, y, x_mask, _) = layer(0), streams(2, 4, 3, 0)
    first = torch.tensor([[True, False, False]] * 2)
    assert not torch.allclose(
        co(x, y, PaddedLayout(x_mask), PaddedLayout(first)), co(x, y, PaddedLayout(x_mask), PaddedLayout()), atol=1e-2
    )


def test_no_mask_is_a_mask_of_ones() -> None:
    co, (x, y, x_mask, y_mask) = layer(0), streams(2, 4, 3, 0)
    full = co(x, y, PaddedLayout(torch.ones_like(x_mask)), PaddedLayout(torch.ones_like(y_mask)))
    assert torch.allclose(co(x, y, PaddedLayout(), PaddedLayout()), full, atol=1e-12)


def test_dropout_is_on_in_training_alone() -> None:
    x, y, x_mask, y_mask = streams(2, 5, 5, 0)
    co = layer(0, dropout=0.5)
    assert torch.equal(
        co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask)), co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask))
    )
    co.train()
    assert not torch.allclose(
        co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask)), co(x, y, PaddedLayout(x_mask), PaddedLayout(y_mask))
    )


@pytest.mark.parametrize("keep_map", [False, True])
def test_attention_probabilities_are_dropped_and_scaled_up(keep_map: bool) -> None:
    attention = AttentionProjections(WIDTH, HEADS, dropout=0.5)
    attention.keep_map = keep_map
    x, only = torch.randn(1, 200, WIDTH), torch.randn(1, 1, WIDTH)  # one key: every probability is 1 before dropout
    out = attention.split_heads(attention(x, only, PaddedLayout(), PaddedLayout()))
    value = attention.split_heads(attention.value(only))
    kept = (out != 0).any(-1, keepdim=True)
    assert torch.allclose(out, torch.where(kept, 2 * value, 0), atol=1e-6)
    assert 140 < int(kept.sum()) < 260  # of 400


def test_widths_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size 10 is not a multiple of num_heads 4"):
        AttentionProjections(10, 4, 0.0)


def test_context_of_another_width() -> None:
    attention = AttentionProjections(WIDTH, HEADS, 0.0, context_width=5)
    assert attention(torch.randn(2, 3, WIDTH), torch.randn(2, 4, 5), PaddedLayout(), PaddedLayout()).shape == (
        2,
        3,
        WIDTH,
    )
    assert attention.key.weight.shape == (WIDTH, 5) and attention.query.weight.shape == (WIDTH, WIDTH)


# Heads and initial weights -------------------------------------------------------------------------------


def test_mlm_head_has_its_own_bias_and_vocabulary() -> None:
    head = MLMHead(WIDTH, 11)
    assert list(head.state_dict()) == [
        *("bias", "transform.dense.weight", "transform.dense.bias"),
        *("transform.LayerNorm.weight", "transform.LayerNorm.bias", "decoder.weight"),
    ]
    nn.init.normal_(head.bias)
    x = torch.randn(3, WIDTH)
    widened = head.transform.dense(x)
    widened = widened * 0.5 * (1 + torch.erf(widened / 2**0.5))
    expected = norm(widened, head.transform.LayerNorm) @ head.decoder.weight.T + head.bias
    assert torch.allclose(head(x), expected, atol=1e-5)
    assert head(torch.randn(0, WIDTH)).shape == (0, 11)


def test_pooler_and_itm_head() -> None:
    x = torch.randn(3, WIDTH)
    pooler, itm = Pooler(WIDTH), ITMHead(WIDTH)
    assert torch.allclose(pooler(x), torch.tanh(x @ pooler.dense.weight.T + pooler.dense.bias), atol=1e-6)
    assert torch.allclose(itm(x), x @ itm.fc.weight.T + itm.fc.bias, atol=1e-6)


def test_initial_weights() -> None:
    linear, embedding, layer_norm = nn.Linear(300, 300), nn.Embedding(300, 300), nn.LayerNorm(300)
    for module in (linear, embedding, layer_norm):
        for parameter in module.parameters():
            nn.init.constant_(parameter, 9.0)
        init_weights(module, 0.02)
    for weight in (linear.weight, embedding.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert weight.mean().item() == pytest.approx(0, abs=3e-4)
    assert linear.bias.eq(0).all() and layer_norm.weight.eq(1).all() and layer_norm.bias.eq(0).all()
