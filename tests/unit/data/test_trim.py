"""Texts cut to the longest sentence of their batch."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from vlp.data.trim import trim_padding


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_trimming_cuts_columns_of_padding_alone(lengths: list[int]) -> None:
    mask = (torch.arange(6) < torch.tensor(lengths)[:, None]).long()
    ids = torch.arange(mask.numel()).reshape(mask.shape) * mask
    short_mask, short_ids = trim_padding(mask, ids)
    longest = max(1, *lengths)
    assert short_mask.shape == short_ids.shape == (len(lengths), longest)
    assert torch.equal(F.pad(short_mask, (0, 6 - longest)), mask)
    assert torch.equal(F.pad(short_ids, (0, 6 - longest)), ids)
