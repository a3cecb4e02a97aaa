"""What ``make test-gpu`` runs on a GPU, here on a CPU in the smallest size."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.arrow_steps import ArrowSteps
from tests.gpu import albef_runs, xvlm_runs
from tests.gpu.numbers import (
    BUILDERS,
    VARIANTS,
    Precision,
    built,
    check_close,
    check_compiled,
    norm_of,
    numbers,
    tolerance,
)
from tests.gpu.waits import WARM_UP, NoWaits, step_without_waits
from tests.unit.albef import task_runs as albef_tasks
from tests.unit.training.small_runs import built as built_run
from tests.unit.training.small_runs import write_data
from tests.unit.xvlm import task_runs as xvlm_tasks


@pytest.fixture(scope="module", params=BUILDERS)
def steps(request: pytest.FixtureRequest) -> ArrowSteps:
    return built(BUILDERS[request.param], "tiny", "cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_precisions(variant: str, precision: Precision, steps: ArrowSteps) -> None:
    expected, drawn = numbers(steps, variant, "fp32")
    assert len(drawn) == (2 if variant == "epic" else 0)
    assert {"mlm_loss", "itm_loss"} <= expected.losses.keys() and all(expected.norms.values())
    found, again = numbers(steps, variant, precision, drawn)
    check_close(found, expected, precision)
    assert all(a.equal(b) for a, b in zip(drawn, again, strict=True))
    if precision == "bf16":  # it was computed in another precision
        with pytest.raises(AssertionError, match="fp32, losses, allowed"):
            check_close(found, expected, "fp32")


def test_what_differs_by_more_is_named(steps: ArrowSteps) -> None:
    expected, _ = numbers(steps, "vanilla", "fp32")
    part, norm = next(iter(expected.norms.items()))
    wrong = expected._replace(norms={**expected.norms, part: 1.2 * norm})
    with pytest.raises(AssertionError, match=f"bf16, norms, allowed 6.3e-02: {{'{part}'"):
        check_close(wrong, expected, "bf16")
    assert tolerance("fp32", False) < tolerance("tf32", False) < tolerance("bf16", False) < tolerance("bf16", True)
    assert norm_of([steps.student]) == 0  # nothing is left behind


@pytest.mark.parametrize("variant", VARIANTS)
def test_waits(variant: str, steps: ArrowSteps) -> None:
    assert math.isfinite(step_without_waits(steps, variant))


def test_every_batch_but_those_that_end_a_step_is_watched(tmp_path: Path) -> None:
    write_data(tmp_path)
    run, waits = built_run("meter", tmp_path, max_steps=WARM_UP + 2), NoWaits()
    run.trainer.callbacks.append(waits)  # type: ignore[attr-defined]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert run.trainer.accumulate_grad_batches == 2 and waits.watched == 2


@pytest.mark.parametrize(("script", "variant"), [("Pretrain", "epic"), ("Pretrain", "momentum"), ("VQA", "")])
def test_runs_of_albef(script: str, variant: str, tmp_path: Path) -> None:
    albef_tasks.write_data(tmp_path)
    albef_runs.trains_without_waits(script, tmp_path, tmp_path / "out", "cpu", variant)


@pytest.mark.parametrize(
    ("script", "variant"), [("Pretrain", "epic"), ("Pretrain", "on_regions"), ("Grounding_bbox", "")]
)
def test_runs_of_xvlm(script: str, variant: str, tmp_path: Path) -> None:
    xvlm_tasks.write_data(tmp_path)
    xvlm_runs.trains_without_waits(script, tmp_path, tmp_path / "out", "cpu", variant)


@pytest.mark.slow
def test_compiled() -> None:
    check_compiled(built(BUILDERS["meter"], "tiny", "cpu"), "aot_eager")
