"""Answers chosen by ranking a list of candidates with an answer decoder, as ALBEF and X-VLM do for VQA.

Source: docs/official/albef.md §7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# (ids (N, m), masks (N, m), question of each (N,)) -> minus the log-likelihood of each sequence's tokens, (N,).
SequenceLosses = Callable[[Tensor, Tensor, Tensor], Tensor]

SEQUENCES = 512  # scored at once


class Ranking(NamedTuple):
    """The k candidates of each of Q questions, best first."""

    ids: Tensor  # (Q, k) int64, indices into the list of candidates
    probabilities: Tensor  # (Q, k), softmax of the scores of these k


def rank_answers(
    first_token_logits: Tensor,
    candidate_ids: Tensor,
    candidate_masks: Tensor,
    k: int,
    sequence_losses: SequenceLosses,
    sequences: int = SEQUENCES,
) -> Ranking:
    """Rank, for each question, the k candidates whose first token is most likely by their whole sequence.

    The score is log p(first token) minus the sequence's loss, **which holds the first token too**: it counts twice, as
    in the official evaluation, whose numbers would change without it.

    Args:
        first_token_logits: (Q, V), of the token that follows ``[CLS]``.
        candidate_ids: (C, m), ``[CLS] answer [SEP]``, padded.
        candidate_masks: (C, m), 1 = a token.
        k: at most C.
        sequence_losses: of many sequences, each under its question.
        sequences: how many of them at once.

    Raises:
        ValueError: k is larger than the number of candidates.
    """
    if k > len(candidate_ids):
        raise ValueError(f"k_test={k}, but the answer list has {len(candidate_ids)} candidates")
    first_tokens = candidate_ids[:, 1]
    likely, chosen = first_token_logits.float().log_softmax(dim=1)[:, first_tokens].topk(k, dim=1)
    losses = _losses(chosen, candidate_ids, candidate_masks, sequence_losses, sequences)
    probabilities, order = (likely - losses).softmax(dim=1).sort(dim=1, descending=True)
    return Ranking(chosen.gather(1, order), probabilities)


def _losses(chosen: Tensor, ids: Tensor, masks: Tensor, sequence_losses: SequenceLosses, sequences: int) -> Tensor:
    """(Q, k): candidates of one length go together, so that hardly any padding is computed."""
    candidate = chosen.flatten()
    question = torch.arange(chosen.numel(), device=chosen.device) // chosen.shape[1]
    lengths = masks.sum(dim=1)[candidate]
    losses = torch.empty(chosen.numel(), device=chosen.device)
    for some in lengths.argsort(stable=True).split(sequences):
        longest = int(lengths[some].max())
        rows = candidate[some]
        losses[some] = sequence_losses(ids[rows, :longest], masks[rows, :longest], question[some]).float()
    return losses.view_as(chosen)
