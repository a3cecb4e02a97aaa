"""Captions written by beam search, as transformers 4.12 did it for X-VLM.

Source: docs/official/xvlm.md §7.5.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Decoder(Protocol):
    """What continues N sequences, token by token."""

    def next(self, ids: Tensor) -> Tensor:
        """The newest token of each sequence, (N,) -> logits (N, V) of the one that follows."""

    def reorder(self, rows: Tensor) -> None:
        """Go on with the sequences rows (N,) int64 of those that there are."""


@torch.no_grad()
def beam_search(
    decoder: Decoder,
    prompt: Tensor,
    size: int,
    *,
    eos: int,
    beams: int,
    min_length: int,
    max_length: int,
    length_penalty: float = 1.0,
) -> list[list[int]]:
    """The best ending of ``prompt`` that the search finds for each of ``size`` images; one beam is greedy search.

    A sequence's score is its log-likelihood, that of its end included, divided by (tokens before the end) to the power
    of ``length_penalty``. A search is over once none of its unfinished sequences, at its present length, would be among
    the ``beams`` best that are finished.

    Args:
        decoder: of size · beams sequences, those of one image beside each other; none has read a token.
        prompt: (p,) int64, at least one token.
        eos: the token that ends a caption.
        min_length, max_length: tokens of a whole sequence, the prompt among them and the end not.

    Returns:
        The tokens between prompt and end.
    """
    rows = torch.arange(size, device=prompt.device)[:, None]
    sequences = prompt.expand(size, beams, -1)
    scores = torch.full((size, beams), float("-inf"), device=prompt.device)
    scores[:, 0] = 0.0  # the beams are alike still
    finished = _Finished(sequences, max_length, eos)
    for token in prompt[:-1]:
        decoder.next(token.expand(size * beams))
    for length in range(len(prompt), max_length):
        log_p = decoder.next(sequences[:, :, -1].flatten()).float().log_softmax(dim=1)
        if length < min_length:
            log_p[:, eos] = float("-inf")
        totals = (scores[:, :, None] + log_p.view(size, beams, -1)).flatten(1)
        best, chosen = totals.topk(2 * beams, dim=1)  # at least ``beams`` of them go on: a beam can end once
        beam, token = chosen // log_p.shape[1], chosen % log_p.shape[1]
        ends, penalty = token == eos, length**length_penalty
        ending = (best / penalty).masked_fill(~ends, float("-inf"))[:, :beams]
        finished.add(sequences[rows, beam[:, :beams]], ending)
        finished.close(best[:, 0] / penalty)
        if finished.closed.all():
            break
        going_on = ends.int().argsort(dim=1, stable=True)[:, :beams]
        scores, beam, token = (each.gather(1, going_on) for each in (best, beam, token))
        sequences = torch.cat([sequences[rows, beam], token[:, :, None]], dim=2)
        decoder.reorder((rows * beams + beam).flatten())
    else:
        finished.add(sequences, scores / max_length**length_penalty)
    return finished.best(len(prompt))


class _Finished:
    """The ``beams`` best finished sequences of each image, best first, filled up with ``eos``."""

    def __init__(self, like: Tensor, max_length: int, eos: int) -> None:
        self.eos, self.max_length = eos, max_length
        self.tokens = like.new_full((*like.shape[:2], max_length), eos)
        self.scores = torch.full(like.shape[:2], float("-inf"), device=like.device)
        self.closed = torch.zeros(len(like), dtype=torch.bool, device=like.device)

    def add(self, sequences: Tensor, scores: Tensor) -> None:
        """Sequences (B, k, t) with their scores (B, k), -inf = none; a closed search takes no more."""
        scores = scores.masked_fill(self.closed[:, None], float("-inf"))
        filled = sequences.new_full((*sequences.shape[:2], self.max_length), self.eos)
        filled[:, :, : sequences.shape[2]] = sequences
        every, tokens = torch.cat([self.scores, scores], dim=1), torch.cat([self.tokens, filled], dim=1)
        self.scores, kept = every.topk(self.scores.shape[1], dim=1)
        self.tokens = tokens.gather(1, kept[:, :, None].expand(-1, -1, self.max_length))

    def close(self, attainable: Tensor) -> None:
        """Searches whose best continuation now scores attainable (B,) are over if that is no better than all kept."""
        self.closed |= self.scores[:, -1] >= attainable

    def best(self, prompt_length: int) -> list[list[int]]:
        """The best one of each image, between prompt and end."""
        endings = self.tokens[:, 0, prompt_length:].tolist()
        return [ids[: ids.index(self.eos)] if self.eos in ids else ids for ids in endings]
