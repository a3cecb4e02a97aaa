"""Whole METER steps with EPIC on sentences that leave nothing to mask, and on one sentence alone."""

from __future__ import annotations

import pytest
import torch

from epic_common.config import PRESETS
from tests.unit.epic.tiny import UNK
from tests.unit.meter.small import BOS, EOS, MASK, PAD, Batch, batch_of
from tests.unit.meter.test_epic_meter import epic_model
from vlp.training.losses import total_loss

VARIANTS = sorted(set(PRESETS) - {"vanilla"})


def specials(*rows: list[int]) -> Batch:
    """A batch of the given ids, all of them special, where MLM asks for nothing."""
    n = max(map(len, rows))
    batch = batch_of([n] * len(rows), masked=[])
    batch["text_ids"] = torch.tensor([row + [PAD] * (n - len(row)) for row in rows])
    batch["text_masks"] = (batch["text_ids"] != PAD).long()
    batch["text_ids_mlm"] = batch["text_ids"].clone()
    return batch


@pytest.mark.parametrize("preset", VARIANTS)
@pytest.mark.parametrize("rows", [[[BOS, EOS]], [[BOS, MASK, UNK, EOS], [BOS, EOS], [BOS, EOS, MASK, BOS, EOS]]])
def test_sentences_of_special_tokens_alone_cost_nothing(preset: str, rows: list[list[int]]) -> None:
    model = epic_model(preset)
    outputs = model(specials(*rows), torch.zeros(len(rows), dtype=torch.long))
    assert {key: float(outputs[key].detach()) for key in outputs if key.startswith("epic") or key == "mlm_loss"} == {
        key: 0.0 for key in ("epic_itc_loss", "epic_gen_loss", "mlm_loss") if key in outputs
    }
    total_loss(outputs).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    # There, as another rank waits for it, and 0.
    assert not gradients["epic.head.beta.weight"].any()
    assert gradients["itm_score.fc.weight"].any()


@pytest.mark.parametrize("preset", VARIANTS)
def test_one_pair_alone_is_a_mismatch_and_trains_epic(preset: str) -> None:
    model = epic_model(preset, mask_ratio=1.0)
    outputs = model(batch_of([7]))
    assert outputs["itm_labels"].tolist() == [0]
    assert all(bool(outputs[key].isfinite()) for key in outputs if key.endswith("_loss"))
    total_loss(outputs).backward()
    gradient = model.get_parameter("epic.head.beta.weight").grad
    assert gradient is not None and gradient.any()
