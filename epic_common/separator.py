"""[SEP] behind the sentences of a text layout without it, for the generator alone (``epic.append_sep``)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from epic_common.vocabulary import Vocabulary


def append_sep(ids: Tensor, mask: Tensor, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Put [SEP] behind every sentence.

    Args:
        ids, mask: (B, n) each, real tokens first.

    Returns:
        The two with one column more, (B, n + 1); [SEP] is real.

    Raises:
        ValueError: the tokenizer has no [SEP].
    """
    if vocabulary.sep_id is None:
        raise ValueError("epic.append_sep=True needs a tokenizer with a [SEP] token")
    ids = F.pad(ids, (0, 1), value=vocabulary.pad_id).scatter(1, _end(mask), vocabulary.sep_id)
    return ids, mask_with_sep(mask)


def mask_with_sep(mask: Tensor) -> Tensor:
    """The mask of the sentences with [SEP]: (B, n), real tokens first -> (B, n + 1)."""
    return F.pad(mask, (0, 1)).scatter(1, _end(mask), 1)


def _end(mask: Tensor) -> Tensor:
    """(B, 1) int64, the place behind each sentence."""
    return mask.sum(dim=1, keepdim=True).long()
