"""What must hold of a patched checkout: `make test-official` checks it where official code is at hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.official.checkout import Official, same
from tests.official.launches import Run
from tests.parity import golden
from tests.parity.fixture import FIXTURES, Fixture

NAMES = {  # of a fixture's sentences, and of the array of Eq. 8's scores
    "meter": ("text_ids", "text_masks", "clean.saliency_score"),
    "vilt": ("text_ids", "text_masks", "eq8_penultimate_scores"),
    "albef": ("input_ids", "attention_mask", "step0.saliency_score"),
    "xvlm": ("text_ids", "text_atts", "sal_raw"),
}
PROBE = Path(__file__).parent / "probe.py"


def off_is_the_unpatched_run_to_the_bit(official: Official) -> None:
    """Skipped where the unpatched launcher does not repeat itself."""
    weights = official.weights(official.plain_run)
    off = official.weights(official.run("off", official.patched))
    if not same(off, weights) and not same(official.weights(official.run("again", official.plain)), weights):
        pytest.skip(f"two runs of the unpatched {official.baseline} differ on this machine: nothing to compare with")
    assert same(off, weights)


def epic_trains_and_resumes(official: Official) -> None:
    """A few steps with EPIC, whose head moves; then on from a checkpoint of the run."""
    output = official.run("epic", official.patched, teacher=official.teacher)
    state = official.weights(output)
    own = {name: value for name, value in state.items() if name.startswith("epic.")}
    assert {"epic.head.beta.weight", "epic.head.beta.bias"} <= own.keys()
    assert any(name.startswith("epic.generator.") for name in own)
    assert all(bool(value.isfinite().all()) for value in state.values() if value.is_floating_point())
    if official.launch.restart is None:
        return
    middle = official.newest(output, official.launch.restart)
    given = {"teacher": official.teacher, "resumed": middle}
    resumed = official.weights(official.run("resumed", official.patched, **given))
    before = torch.load(middle, map_location="cpu")[official.launch.key]
    assert resumed.keys() == state.keys()
    assert not torch.equal(resumed["epic.head.beta.weight"], before["epic.head.beta.weight"]), "it goes on"


def saliency_is_that_of_the_fixture(official: Official, fixture: str = "golden_pretrain") -> None:
    """Hooks on the official model, as its launcher builds it, find the golden scores."""
    golden_arrays = Fixture(FIXTURES / official.baseline / f"{fixture}.json")
    request, result = official.folder / "request.npz", official.folder / "result.npz"
    np.savez(request, **request_of(golden_arrays, official.baseline))
    command = official.launch.command(Run(official.patched, official.data, official.output("probed")))
    launcher = next(i for i, part in enumerate(command) if part.endswith(".py"))
    probe = [str(PROBE), official.baseline, golden.__file__, str(request), str(result)]
    official.start([*command[:launcher], *probe, *command[launcher:]], official.patched)
    compared = golden_arrays.compare(NAMES[official.baseline][2], np.load(result)["scores"])
    assert compared.passed, compared


def request_of(fixture: Fixture, baseline: str) -> dict[str, Any]:
    """What probe.py is told: one batch, and how the weights are filled."""
    ids, mask, _ = NAMES[baseline]
    inputs, weights = fixture.inputs, fixture.weights
    assert weights is not None
    tied = _tied(fixture, weights)
    names = {"tied": list(tied), "tied_to": list(tied.values()), "skip": weights["skip"]}
    arrays = {"image": inputs["image"], "text_ids": inputs[ids], "text_masks": inputs[mask]}
    return arrays | {key: np.array(value, dtype=str) for key, value in names.items()}


def _tied(fixture: Fixture, weights: dict[str, Any]) -> dict[str, str]:
    if weights["tied"] is None:
        return {}
    with fixture.file(weights["tied"]).open(newline="", encoding="utf-8") as handle:
        return {row["key"]: row["takes_value_of"] for row in csv.DictReader(handle, delimiter="\t")}
