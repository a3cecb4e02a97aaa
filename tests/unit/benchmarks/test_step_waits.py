"""The step that the benchmark times waits for nothing on a batch as the loader gives it, and learns from all of it."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.host_waits import HostWaits
from benchmarks.step import BASELINES, Steps, run_once

LENGTHS = [5, 12, 9, 16, 7]


@pytest.fixture(scope="module")
def steps(request: pytest.FixtureRequest) -> Steps:
    return BASELINES[request.param]("tiny")


OURS = ("vanilla", "epic", "epic_cached", "epic_momentum", "region")
OUR_STEPS = [(baseline, name) for baseline, steps in BASELINES.items() for name in steps.variants if name in OURS]


@pytest.mark.parametrize(("steps", "name"), OUR_STEPS, indirect=["steps"])
def test_our_step_waits_for_nothing(steps: Steps, name: str) -> None:
    variant, batch = steps.variant(name), steps.batch(LENGTHS)
    with HostWaits() as waits:
        run_once(variant, batch)
    assert waits.found == Counter()
    assert waits.operations > 1000


@pytest.mark.parametrize("steps", ["meter", "vilt"], indirect=True)
def test_the_batch_is_that_of_an_arrow_loader(steps: Steps) -> None:
    batch = steps.batch(LENGTHS)
    assert sorted(batch["itm_labels"].tolist()) == [0, 0, 0, 1, 1]
    assert batch["itm_negatives"].tolist() == [row for row, label in enumerate(batch["itm_labels"]) if not label]
    assert len(batch["image"][0]) == 5 and len(batch["false_image_0"][0]) == 3
    assert batch["plan"]["text"].tokens.mask.sum(dim=1).tolist() == LENGTHS
    words = [length - 2 for length in LENGTHS]
    assert batch["epic_masked_count"] == sum(-(-35 * count // 100) for count in words)


def test_the_batch_is_that_of_albef_s_loader() -> None:
    batch = BASELINES["albef"]("tiny").batch(LENGTHS)
    assert batch["image"].shape == (5, 3, 64, 64)
    assert batch["text_masks"].sum(dim=1).tolist() == LENGTHS and batch["text_ids"].shape == (5, 16)
    assert batch["plan"]["text"].tokens.mask.sum(dim=1).tolist() == LENGTHS
    chosen = batch["text_labels_mlm"] != -100
    assert len(batch["plan"]["mlm"].row) == chosen.sum() > 0
    assert not chosen[:, 0].any() and not (chosen & (batch["text_masks"] == 0)).any()
    words = [length - 1 for length in LENGTHS]  # all but [CLS]
    assert batch["epic_masked_count"] == sum(-(-35 * count // 100) for count in words)
    assert batch["epic_text_with_sep"].tokens.mask.sum(dim=1).tolist() == [length + 1 for length in LENGTHS]


def test_the_batch_is_that_of_x_vlm_s_loaders() -> None:
    """docs/official/xvlm.md §2, §3: the official share of images among the texts of regions, 48 of 128."""
    batch = BASELINES["xvlm"]("tiny").batch([*LENGTHS, 6, 8, 10])
    regions = batch["regions"]
    assert batch["image"].shape == (8, 3, 64, 64) and regions["image"].shape == (3, 3, 64, 64)
    assert regions["idx_to_group_img"].bincount().tolist() == [3, 3, 2]
    assert regions["image_atts"].tolist() == [[1, 1, 0, 0, 0]] * 8
    for stream in (batch, regions):
        lengths = stream["text_masks"].sum(dim=1)
        assert sorted(lengths.tolist()) == sorted([*LENGTHS, 6, 8, 10])
        chosen = stream["text_labels_mlm"] != -100
        assert len(stream["plan"]["mlm"].row) == chosen.sum() > 0 and not chosen[:, 0].any()
        assert chosen.sum(dim=1).tolist() == [min(8, max(1, round(n * 0.25))) for n in lengths.tolist()]
        assert stream["epic_masked_count"] == sum(-(-35 * (n - 1) // 100) for n in lengths.tolist())
