"""What a loader tells EPIC of a batch changes no number: |M|, the teacher's plan, the layout of the sentences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.host_waits import HostWaits
from epic_common.config import PRESETS
from epic_common.objective import MaskCount
from epic_vlp.lightning_epic import MASKED_COUNT
from epic_vlp.loader_plan import EpicPlan
from tests.unit.epic.tiny import VOCABULARY, config_of, sentences
from tests.unit.epic_vlp.kits import VILT_KIT, Batch, Kit, every
from tests.unit.vilt.small import GRID
from vilt.modules.epic_vilt import ALL_PATCHES
from vlp.losses.total import losses_of, total_loss
from vlp.sacred_dialect.step_plan import with_labels

VARIANTS = sorted(set(PRESETS) - {"vanilla"})


def planned(kit: Kit, model: Any, batch: Batch) -> Batch:
    """The batch as a run's loader makes it."""
    size = len(batch["text_ids"])
    batch = with_labels(batch, torch.arange(size) % 2)
    batch = {**batch, **model.plan(batch)}
    return {**batch, **EpicPlan(model.epic, model.config, kit.parts.teacher_plan)(batch)}


@every(*VARIANTS)
def test_a_planned_batch_has_the_losses_of_any_other_and_asks_for_nothing(kit: Kit, preset: str) -> None:
    results = []
    for plan in (False, True):
        torch.manual_seed(0)
        model, batch = kit.epic_model(preset), kit.batch_of([7, 5, 9, 4], padded_to=12)
        given = planned(kit, model, batch) if plan else with_labels(batch, torch.arange(4) % 2)
        with HostWaits() as waits:
            outputs = model(given)
            total_loss(outputs).backward()
        results.append((losses_of(outputs), waits.total))
    (expected, asked), (losses, still_asked) = results
    assert asked > 0 and still_asked == 0
    assert losses.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in losses.items())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.sampled_from([0.0, 0.15, 0.35, 1.0]), st.booleans())
def test_the_count_is_that_of_the_masked_tokens(words: list[int], ratio: float, specials: bool) -> None:
    config = config_of("itc_rand", mask_ratio=ratio, mask_special_tokens=specials)
    ids, mask = sentences(*words, padded_to=16)
    per_sentence = [len(row[row > 0]) if specials else n for row, n in zip(mask, words, strict=True)]
    # In exact decimals: 0.35 of 20 tokens is 7.
    expected = sum(-(-round(ratio * 100) * n // 100) for n in per_sentence)
    assert MaskCount(config, VOCABULARY)(ids, mask) == expected


@torch.no_grad()
def test_the_teacher_of_a_capped_student_is_told_of_all_patches() -> None:
    """ViLT's teacher sees every patch, also in a batch whose plan is that of ``max_image_len`` patches."""
    model = VILT_KIT.epic_model("epic")
    batch = VILT_KIT.batch_of([6, 5, 7], sizes=[GRID, (1, 2), (2, 2)])
    expected = model.epic.teacher.saliency(batch)
    model.config["max_image_len"] = 2
    capped = planned(VILT_KIT, model, batch)
    assert ALL_PATCHES in capped and capped["plan"]["joint"]["image"].mask.shape[1] == 7 + 1 + 2
    with HostWaits() as waits:
        scores = model.epic.teacher.saliency(capped)
    assert torch.equal(scores, expected) and not waits.found
    del capped[ALL_PATCHES]  # a batch that no loader of this run has made
    assert torch.equal(model.epic.teacher.saliency(capped), expected)


@every("epic")
def test_scores_that_are_not_finite_mask_less_than_was_counted(kit: Kit, preset: str) -> None:
    """Their sentence keeps its words, and the loss is NaN, so that the run stops."""
    torch.manual_seed(0)
    model = kit.epic_model(preset)
    batch = planned(kit, model, kit.batch_of([7, 5, 9]))
    scores = model.epic.teacher.saliency(batch).clone()
    scores[1, 2] = torch.nan
    corruption = model.epic.corrupt(batch["text_ids"], batch["text_masks"], scores, count=batch[MASKED_COUNT])
    assert int(corruption.masked.sum()) < batch[MASKED_COUNT]
    assert torch.equal(corruption.input_ids[1], batch["text_ids"][1]) and not corruption.replaced[1].any()
    assert corruption.generator_loss.isfinite() and corruption.generator_correct.shape == (batch[MASKED_COUNT],)
    torch.manual_seed(0)
    plain = kit.epic_model(preset).epic.corrupt(batch["text_ids"], batch["text_masks"], scores)
    assert torch.equal(plain.masked, corruption.masked)
    assert torch.allclose(plain.generator_loss, corruption.generator_loss)
    assert int(plain.generator_correct.sum()) == int(corruption.generator_correct.sum())
    states = torch.zeros(*batch["text_ids"].shape, kit.width)
    assert model.epic.losses(states, corruption)["epic_teacher_guard_loss"].isnan()


@pytest.mark.parametrize("seed", [0, 1])
def test_planned_or_not_a_masked_token_is_replaced_by_the_same_word(seed: int) -> None:
    kit = VILT_KIT
    made = []
    for count in (False, True):
        torch.manual_seed(0)
        model = kit.epic_model("epic")
        batch = planned(kit, model, kit.batch_of([7, 5, 9], seed=seed))
        scores = model.epic.teacher.saliency(batch)
        options = {"count": batch[MASKED_COUNT]} if count else {}
        made.append(model.epic.corrupt(batch["text_ids"], batch["text_masks"], scores, **options).input_ids)
    assert torch.equal(*made)
