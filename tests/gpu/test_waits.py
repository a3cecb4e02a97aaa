"""A training step makes the host wait for nothing, by itself and under the Trainer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.gpu.marks import ON_GPU
from tests.gpu.numbers import BUILDERS, VARIANTS, built
from tests.gpu.waits import NoWaits, step_without_waits
from tests.unit.training.small_runs import built as built_run
from tests.unit.training.small_runs import write_data

pytestmark = ON_GPU


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", BUILDERS)
def test_forward_and_backward(name: str, variant: str) -> None:
    assert math.isfinite(step_without_waits(built(BUILDERS[name], "tiny", "cuda"), variant))


@pytest.mark.parametrize("named", [(), ("epic",)], ids=["vanilla", "epic"])
@pytest.mark.parametrize("name", BUILDERS)
def test_the_batches_of_a_run(name: str, named: tuple[str, ...], tmp_path: Path) -> None:
    write_data(tmp_path)
    run, waits = built_run(name, tmp_path, *named, num_workers=1, max_steps=5, log_every_n_steps=1000), NoWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert waits.watched >= 3
