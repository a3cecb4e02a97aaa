"""What every Lightning baseline gets of EPIC, on METER: the optimiser's groups and a generator without padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.modules.meter_utils import set_schedule
from tests.unit.meter.small import MASK, batch_of, meter
from tests.unit.meter.test_epic_meter import epic_model, epic_of
from vlp.nn.packed_text import encode_packed


def test_epics_parameters_have_groups_of_their_own() -> None:
    vanilla, model = meter(max_steps=10), epic_model()
    (ours,), _ = set_schedule(vanilla)
    (theirs,), _ = set_schedule(model)
    shape = [
        [(p.shape, group["initial_lr"], group["weight_decay"]) for p in group["params"]] for group in ours.param_groups
    ]
    official = [
        [(p.shape, group["initial_lr"], group["weight_decay"]) for p in group["params"]]
        for group in theirs.param_groups[:6]
    ]
    assert official == shape
    names = {id(p): name for name, p in model.named_parameters()}
    own = {
        names[id(p)]: (group["initial_lr"], group["weight_decay"])
        for group in theirs.param_groups[6:]
        for p in group["params"]
    }
    assert own.keys() == {name for name in names.values() if name.startswith("epic.")}
    for name, (lr, decay) in own.items():
        assert lr == pytest.approx(5e-5 if name.startswith("epic.head") else 1e-5), name
        assert decay == (0 if "bias" in name or "norm.weight" in name.replace("LayerNorm", "norm") else 0.01), name


@torch.no_grad()
@given(st.lists(st.integers(3, 9), min_size=1, max_size=5), st.integers(0, 9))
@settings(max_examples=10, deadline=None)
def test_the_generator_runs_without_padding_and_gives_the_same_logits(lengths: list[int], seed: int) -> None:
    epic = epic_of(epic_model()).eval()
    batch = batch_of(lengths, padded_to=12, seed=seed)
    ids, mask = batch["text_ids"], batch["text_masks"].bool()
    masked = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.5)
    generator: Any = epic.generator
    assert generator.encode is encode_packed
    expected = generator.language_model(input_ids=ids.masked_fill(masked, MASK), attention_mask=mask.long()).logits
    assert torch.allclose(generator.logits(ids, mask, masked), expected[masked], atol=1e-5)
