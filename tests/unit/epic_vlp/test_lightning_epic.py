"""What every Lightning baseline gets of EPIC: the optimiser's groups and a generator without padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.epic_vlp.kits import Kit, every
from vlp.nn.packed_text import encode_packed


@every("epic")
def test_epics_parameters_have_groups_of_their_own(kit: Kit, preset: str) -> None:
    model = kit.epic_model(preset)
    (ours,), _ = kit.set_schedule(kit.student(max_steps=10))
    (theirs,), _ = kit.set_schedule(model)
    shape = [
        [(p.shape, group["initial_lr"], group["weight_decay"]) for p in group["params"]] for group in ours.param_groups
    ]
    official = [
        [(p.shape, group["initial_lr"], group["weight_decay"]) for p in group["params"]]
        for group in theirs.param_groups[: kit.official_groups]
    ]
    assert official == shape
    names = {id(p): name for name, p in model.named_parameters()}
    own = {
        names[id(p)]: (group["initial_lr"], group["weight_decay"])
        for group in theirs.param_groups[kit.official_groups :]
        for p in group["params"]
    }
    assert own.keys() == {name for name in names.values() if name.startswith("epic.")}
    for name, (lr, decay) in own.items():
        assert lr == pytest.approx(kit.rates[0 if name.startswith("epic.head") else 1]), name
        assert decay == (0 if "bias" in name or "norm.weight" in name.replace("LayerNorm", "norm") else 0.01), name


@every("epic")
@torch.no_grad()
@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(3, 9), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_the_generator_runs_without_padding_and_gives_the_same_logits(
    kit: Kit, preset: str, lengths: list[int], seed: int
) -> None:
    epic = kit.epic_model(preset).epic
    batch = kit.batch_of(lengths, padded_to=12, seed=seed)
    ids, mask = batch["text_ids"], batch["text_masks"].bool()
    masked = mask & (torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) < 0.5)
    generator: Any = epic.generator
    assert generator.encode is encode_packed
    expected = generator.language_model(
        input_ids=ids.masked_fill(masked, kit.vocabulary.mask_id), attention_mask=mask.long()
    ).logits
    assert torch.allclose(generator.logits(ids, mask, masked), expected[masked], atol=1e-5)
