"""Beam search against every sequence there is, against transformers', and the decoder's memory against full passes.

Source: docs/official/xvlm.md §7.5.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from tests.unit.small_parts import stirred
from vlp.evaluation.generation import beam_search
from vlp.nn.cached_decoding import CachedDecoder
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionMaskedLM
from vlp.nn.padding import PaddedLayout

EOS = 1
Paths = dict[tuple[int, ...], float]  # the tokens after the prompt, the end not among them -> log-likelihood


class TableDecoder:
    """The next token depends on the image and on all tokens before, at random."""

    def __init__(self, size: int, beams: int, words: int, seed: int, sharpness: float = 2.0) -> None:
        self.words, self.seed, self.sharpness = words, seed, sharpness
        self.image = torch.arange(size).repeat_interleave(beams)
        self.read = torch.empty(size * beams, 0, dtype=torch.long)

    def next(self, ids: Tensor) -> Tensor:
        self.read = torch.cat([self.read, ids[:, None]], dim=1)
        return torch.stack([self.after(int(i), tuple(r)) for i, r in zip(self.image, self.read.tolist(), strict=True)])

    def reorder(self, rows: Tensor) -> None:
        assert torch.equal(self.image[rows], self.image), "a sequence went to another image"
        self.read = self.read[rows]

    def after(self, image: int, tokens: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, image, tokens)) % 2**31)
        return self.sharpness * torch.randn(self.words, generator=generator, dtype=torch.float64)

    def log_p(self, image: int, tokens: tuple[int, ...]) -> list[float]:
        return self.after(image, tokens).log_softmax(dim=0).tolist()


def every_caption(decoder: TableDecoder, image: int, prompt: tuple[int, ...], least: int, most: int) -> Paths:
    """Every sequence that ends, and every one that reaches the longest length, with its log-likelihood."""
    found: Paths = {}
    words = [word for word in range(decoder.words) if word != EOS]
    for length in range(most - len(prompt) + 1):
        for caption in itertools.product(words, repeat=length):
            whole = (*prompt, *caption)
            likely = sum(decoder.log_p(image, whole[:i])[whole[i]] for i in range(len(prompt), len(whole)))
            if len(whole) == most:
                found[caption] = likely
            elif len(whole) >= least:
                found[caption] = likely + decoder.log_p(image, whole)[EOS]
    return found


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_a_wide_beam_finds_the_best_of_all_sequences(seed: int, least: int) -> None:
    """With room for every sequence and a penalty that no longer sequence can outrun, the search is exhaustive."""
    size, words, prompt, most = 2, 3, (2, 0), 6
    beams = (words - 1) ** (most - len(prompt))
    found = beam_search(
        TableDecoder(size, beams, words, seed),
        torch.tensor(prompt),
        size,
        eos=EOS,
        beams=beams,
        min_length=len(prompt) + least,
        max_length=most,
        length_penalty=0.0,
    )
    for image, got in enumerate(found):
        scored = every_caption(TableDecoder(size, 1, words, seed), image, prompt, len(prompt) + least, most)
        assert tuple(got) == max(scored, key=lambda caption: scored[caption])


def plain_search(
    decoder: TableDecoder, image: int, prompt: tuple[int, ...], beams: int, least: int, most: int, penalty: float
) -> tuple[int, ...]:
    """The rules of transformers 4.12 for one image, in lists."""
    going: list[tuple[float, tuple[int, ...]]] = [(0.0, prompt)]
    finished: list[tuple[float, tuple[int, ...]]] = []
    while len(going[0][1]) < most:
        length = len(going[0][1])
        steps = []
        for total, tokens in going:
            for word, p in enumerate(decoder.log_p(image, tokens)):
                if word != EOS or length >= least:
                    steps.append((total + p, tokens, word))
        steps = sorted(steps, reverse=True)[: 2 * beams]
        ended = [(total / length**penalty, tokens) for total, tokens, word in steps[:beams] if word == EOS]
        finished = sorted(finished + ended, reverse=True)[:beams]
        if len(finished) == beams and finished[-1][0] >= steps[0][0] / length**penalty:
            return finished[0][1][len(prompt) :]
        going = [(total, (*tokens, word)) for total, tokens, word in steps if word != EOS][:beams]
    finished += [(total / most**penalty, tokens) for total, tokens in going]
    return max(finished)[1][len(prompt) :]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(3, 7), st.sampled_from([0.0, 1.0, 2.0]), st.integers(3, 7))
def test_narrow_beams_follow_the_rules(seed: int, beams: int, least: int, penalty: float, words: int) -> None:
    size, prompt, most = 3, (2, 0, 2), 9
    found = beam_search(
        TableDecoder(size, beams, words, seed),
        torch.tensor(prompt),
        size,
        eos=EOS,
        beams=beams,
        min_length=least,
        max_length=most,
        length_penalty=penalty,
    )
    for image, got in enumerate(found):
        single = TableDecoder(size, 1, words, seed)
        assert tuple(got) == plain_search(single, image, prompt, beams, least, most, penalty)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_one_beam_is_greedy(seed: int) -> None:
    decoder = TableDecoder(1, 1, 5, seed)
    tokens: tuple[int, ...] = (2,)
    (found,) = beam_search(decoder, torch.tensor([2]), 1, eos=EOS, beams=1, min_length=1, max_length=8)
    while len(tokens) < 8 and (word := int(decoder.after(0, tokens).argmax())) != EOS:
        tokens = (*tokens, word)
    assert tuple(found) == tokens[1:]


class OfTransformers:
    """A language model of transformers that reads each sequence anew."""

    def __init__(self, model: GPT2LMHeadModel, rows: int) -> None:
        self.model, self.read = model, torch.empty(rows, 0, dtype=torch.long)

    def next(self, ids: Tensor) -> Tensor:
        self.read = torch.cat([self.read, ids[:, None]], dim=1)
        return self.model(self.read).logits[:, -1]

    def reorder(self, rows: Tensor) -> None:
        self.read = self.read[rows]


def test_transformers_finds_the_same() -> None:
    """Without a length penalty its present rules are those of 4.12, which counted the prompt and not the end."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 12, "n_positions": 32}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=EOS, tie_word_embeddings=False)
    model, lengths = stirred(GPT2LMHeadModel(config)), set()
    for beams, sharpness, prompt in itertools.product([2, 3, 5], [0.2, 0.8], itertools.product([2, 5, 7], [3, 4])):
        model.lm_head.weight.data.normal_(std=sharpness)
        ids = torch.tensor(prompt)
        limits: dict[str, Any] = {"min_length": 4, "max_length": 9, "length_penalty": 0.0}
        theirs = model.generate(
            ids[None], attention_mask=torch.ones(1, 2), num_beams=beams, do_sample=False, pad_token_id=0, **limits
        )[0, 2:].tolist()
        expected = theirs[: theirs.index(EOS)] if EOS in theirs else theirs
        (found,) = beam_search(OfTransformers(model, beams), ids, 1, eos=EOS, beams=beams, **limits)
        assert found == expected
        lengths.add(len(found))
    assert len(lengths) > 2


@pytest.mark.parametrize("fusion_layer", [0, 2])
def test_cached_steps_are_the_full_pass(fusion_layer: int) -> None:
    size, beams, steps = 2, 3, 5
    sizes: dict[str, Any] = {
        **{"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32},
        **{"fusion_layer": fusion_layer, "encoder_width": 24, "vocab_size": 50, "max_position_embeddings": 40},
        **{"type_vocab_size": 2, "pad_token_id": 0, "layer_norm_eps": 1e-12, "initializer_range": 0.02},
        **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    }
    torch.manual_seed(0)
    lm, images = stirred(FusionMaskedLM(sizes, causal=True)), torch.randn(size, 7, 24)
    decoder = CachedDecoder(lm, images, beams)
    read = torch.empty(size * beams, 0, dtype=torch.long)
    seen = Seen(rounds=0, drawn=torch.arange(size).repeat_interleave(beams))
    for step in range(steps):
        ids = torch.randint(1, 50, (size * beams,))
        read = torch.cat([read, ids[:, None]], dim=1)
        layout = PaddedLayout(torch.ones_like(read, dtype=torch.bool))
        full = lm.logits(lm.bert(read, layout, images, seen))[:, -1]
        torch.testing.assert_close(decoder.next(ids), full, rtol=1e-4, atol=1e-5)
        rows = torch.tensor([1, 1, 0, 5, 3, 4]) if step % 2 else torch.tensor([2, 0, 0, 3, 3, 3])
        decoder.reorder(rows)
        read = read[rows]
