"""ITM's labels in the model: those of the loader's batch, or drawn among the false images of all pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.unit.meter import small as meter
from tests.unit.small_parts import Batch
from tests.unit.vilt import small as vilt
from vlp.sacred_dialect.step_plan import draw_itm_labels, with_labels

LABELS = [1, 0, 0, 1, 0]


def of_the_loader(batch: Batch) -> Batch:
    """What the loader makes of the same samples, as the docstring of ``Collator`` says."""
    rows = [1, 2, 4]
    batch = {**batch, "itm_labels": torch.tensor(LABELS), "itm_negatives": torch.tensor(rows)}
    batch["false_image_0"] = [torch.stack([view[row] for row in rows]) for view in batch["false_image_0"]]
    if "sizes" in batch:
        sizes = batch["sizes"]["false_image_0"]
        batch["sizes"] = {**batch["sizes"], "false_image_0": torch.stack([sizes[row] for row in rows])}
    return batch


def meter_pair() -> tuple[Any, Batch]:
    return meter.meter(), meter.batch_of([5, 4, 6, 3, 7])


def vilt_pair(tell_sizes: bool = True) -> tuple[Any, Batch]:
    sizes = [(3, 4), (1, 2), (2, 1), (3, 3), (2, 4)]
    batch = vilt.batch_of([5, 4, 6, 3, 7], sizes=sizes, false_sizes=sizes[::-1], tell_sizes=tell_sizes)
    return vilt.vilt(), batch


@pytest.mark.parametrize("made", [meter_pair, vilt_pair, lambda: vilt_pair(tell_sizes=False)])
def test_the_loaders_batch_gives_what_whole_samples_give(made: Callable[[], tuple[Any, Batch]]) -> None:
    model, batch = made()
    expected = model(batch, torch.tensor(LABELS))
    state = torch.get_rng_state()
    for given in (None, torch.tensor(LABELS)):
        outputs = model(of_the_loader(batch), given)
        assert outputs.keys() == expected.keys() >= {"itm_loss", "itm_labels", "mlm_loss"}
        assert all(torch.equal(value, expected[key]) for key, value in outputs.items())
    assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn where the labels are there


def test_labels_without_their_false_images_are_refused() -> None:
    model, batch = meter_pair()
    with pytest.raises(ValueError, match=r"itm_labels=\[0, 1, 0, 1, 0\], but the batch was made for \[1, 0, 0, 1, 0\]"):
        model(of_the_loader(batch), torch.tensor([0, 1, 0, 1, 0]))


def test_labels_are_drawn_for_whole_samples() -> None:
    _, batch = vilt_pair()
    used = with_labels(batch, draw_itm_labels(5))
    rows = used["itm_negatives"].tolist()
    assert sorted(used["itm_labels"].tolist()) == [0, 0, 0, 1, 1]
    assert rows == [row for row, label in enumerate(used["itm_labels"].tolist()) if label == 0]
    assert torch.equal(used["false_image_0"][0], batch["false_image_0"][0][rows])
    assert torch.equal(used["sizes"]["false_image_0"], batch["sizes"]["false_image_0"][rows])
    assert torch.equal(used["sizes"]["image"], batch["sizes"]["image"]) and len(batch["false_image_0"][0]) == 5
