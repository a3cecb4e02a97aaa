"""Which epochs of a run are scored where evaluations begin late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vlp.yaml_dialect.late_evaluation import EvaluateFrom


@pytest.mark.parametrize("whole", [1.0, 5])
@pytest.mark.parametrize(("start_eval", "scored"), [(0, [0, 1, 2, 3]), (2, [2, 3]), (7, [3])])
def test_epochs_from_the_first_one_on_and_the_last(start_eval: int, scored: list[int], whole: int | float) -> None:
    callback, found = EvaluateFrom(start_eval), []
    trainer: Any = SimpleNamespace(limit_val_batches=whole, current_epoch=0, max_epochs=4)
    for trainer.current_epoch in range(4):
        callback.on_train_epoch_start(trainer, None)  # type: ignore[arg-type]
        assert trainer.limit_val_batches in (0, whole)
        found += [trainer.current_epoch] if trainer.limit_val_batches else []
    assert found == scored


def test_a_run_that_goes_on_within_an_epoch() -> None:
    """Lightning does not start that epoch again."""
    trainer: Any = SimpleNamespace(limit_val_batches=1.0, current_epoch=1, max_epochs=4)
    EvaluateFrom(2).on_train_start(trainer, None)  # type: ignore[arg-type]
    assert trainer.limit_val_batches == 0
