"""The fusion encoder: every saving gives the numbers of the plain computation, and stock BERT's where it is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertLMHeadModel, BertModel

from vlp.nn.attention import AttentionProjections
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM
from vlp.nn.packed_text import TextLayout, TextPlan
from vlp.nn.padding import PaddedLayout, Queries, QuerySubset, stacked, with_padding

SIZES: dict[str, Any] = {
    **{"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32},
    **{"fusion_layer": 2, "encoder_width": 12, "vocab_size": 50, "max_position_embeddings": 20},
    **{"type_vocab_size": 2, "pad_token_id": 0, "layer_norm_eps": 1e-12, "initializer_range": 0.3},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
MASK = torch.arange(7) < torch.tensor([7, 3, 5])[:, None]


def encoder(**changes: Any) -> FusionEncoder:
    torch.manual_seed(0)
    return FusionEncoder({**SIZES, **changes}).double().eval()


def sentences(rows: int = 3, seed: int = 1) -> Tensor:
    return torch.randint(1, 50, (rows, 7), generator=torch.Generator().manual_seed(seed))


def images(count: int = 3, tokens: int = 9) -> Tensor:
    return torch.randn(count, tokens, 12, generator=torch.Generator().manual_seed(2)).double()


def stock(model: FusionEncoder, ids: Tensor, mask: Tensor) -> Tensor:
    """transformers' BERT with the weights of a model without fusion layers."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    config = BertConfig(**{name: SIZES[name] for name in names}, max_position_embeddings=20)
    bert = BertModel(config, add_pooling_layer=False).double().eval()
    bert.load_state_dict(model.state_dict(), strict=False)
    return bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state


def test_without_fusion_layers_it_is_bert() -> None:
    model = encoder(fusion_layer=4)
    theirs = stock(model, sentences(), MASK)
    torch.testing.assert_close(model.text(sentences(), PaddedLayout(MASK))[MASK], theirs[MASK])


def test_a_causal_decoder_over_states_is_berts_decoder() -> None:
    torch.manual_seed(0)
    ours = FusionMaskedLM({**SIZES, "fusion_layer": 0, "encoder_width": 16}, causal=True).double().eval()
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    sizes = {name: SIZES[name] for name in names}
    config = BertConfig(**sizes, max_position_embeddings=20, is_decoder=True, add_cross_attention=True)
    theirs = BertLMHeadModel(config).double().eval()
    loaded = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not loaded.missing_keys and loaded.unexpected_keys == ["bert.embeddings.position_ids"]
    states = torch.randn(3, 5, 16).double()
    seen = torch.arange(5) < torch.tensor([5, 2, 4])[:, None]
    logits = ours.logits(ours.bert(sentences(), PaddedLayout(MASK), states, Seen(mask=seen)))
    expected = theirs(
        input_ids=sentences(),
        attention_mask=MASK.long(),
        encoder_hidden_states=states,
        encoder_attention_mask=seen.long(),
    ).logits
    torch.testing.assert_close(logits[MASK], expected[MASK])


def test_the_tied_head_is_one_parameter_with_two_names() -> None:
    model = FusionMaskedLM(SIZES)
    names = [name for name, _ in model.named_parameters()]
    assert "bert.embeddings.word_embeddings.weight" in names and "cls.predictions.decoder.weight" not in names
    assert {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"} <= model.state_dict().keys()


def one_by_one(model: FusionEncoder, ids: Tensor, mask: Tensor, pictures: Tensor) -> Tensor:
    """Each sentence alone with its own copy of its image."""
    rows = [model(ids[i : i + 1], PaddedLayout(mask[i : i + 1]), pictures[i : i + 1], Seen()) for i in range(len(ids))]
    return torch.cat(rows)


@pytest.mark.parametrize("projected", [True, False])
def test_sentences_that_share_images_get_what_each_gets_alone(projected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds, the second padded to the full length, and drawn images; packed and padded; forward and backward."""
    monkeypatch.setattr(AttentionProjections, "unprojected_is_cheaper", lambda *_: not projected)
    model, pictures = encoder(), images().requires_grad_()
    ids = torch.cat([sentences(seed=i) for i in range(3)])
    drawn, lengths = torch.tensor([2, 2, 0]), torch.tensor([2, 7, 4])
    masks = [MASK, torch.arange(7) < lengths[:, None], MASK]
    expected = one_by_one(model, ids, torch.cat(masks), torch.cat([pictures, pictures, pictures[drawn]]))
    valid = torch.cat(masks)
    (reference,) = torch.autograd.grad(expected[valid].sin().sum(), pictures)
    packed = TextLayout(TextPlan.of(MASK))
    for first in (packed, PaddedLayout(MASK)):
        together = stacked([first, with_padding(masks[1], first), first])
        states = model(ids, together, pictures, Seen(rounds=2, drawn=drawn))
        torch.testing.assert_close(together.pad(states)[valid], expected[valid])
        (gradient,) = torch.autograd.grad(together.pad(states)[valid].sin().sum(), pictures)
        torch.testing.assert_close(gradient, reference)


def test_what_is_read_of_the_last_layer_is_what_all_of_it_gives() -> None:
    model, layout = encoder(), TextLayout(TextPlan.of(MASK))
    wanted = torch.zeros_like(MASK)
    wanted[0, 0] = wanted[0, 4] = wanted[2, 1] = True
    full = layout.pad(model(sentences(), layout, images(), Seen()))
    read = model(sentences(), layout, images(), Seen(), QuerySubset(layout, Queries.of(wanted)))
    torch.testing.assert_close(read, full[wanted])


def test_fusion_layers_take_several_images_in_turn() -> None:
    model, layout = encoder(), PaddedLayout(MASK)
    left, right = images(), images().flip(0)
    x = model.text(sentences(), layout)
    by_hand = model.layers[3](model.layers[2](x, layout, left, Seen()), layout, right, Seen())
    torch.testing.assert_close(model.fuse(x, layout, [left, right], Seen()), by_hand)


def test_query_and_key_of_eq_8_are_the_scores_of_image_token_0() -> None:
    """What the cross-attention's map is made of, less its scale: the column of token 0 before the softmax."""
    model, layout = encoder(), PaddedLayout(MASK)
    x = model.text(sentences(), layout)
    q, k = model.query_key(x, layout, images(), Seen(), layer=-2)
    layer: Any = model.layers[2]
    hidden = layer.attention(x, x, layout, layout)
    cross = layer.crossattention.self
    full = cross.split_heads(cross.query(hidden)) @ cross.split_heads(cross.key(images())).transpose(-1, -2)
    torch.testing.assert_close(torch.einsum("bhd,bhnd->bhn", q, k), full[..., 0])


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model, layout = encoder(), PaddedLayout(MASK)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model(sentences(), layout, images(), Seen()).sin().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    model.gradient_checkpointing = True
    torch.testing.assert_close(gradients(), plain)
