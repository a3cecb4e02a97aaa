"""What ends the building of a run ends it in one line, and a fault of ours does not hide behind it."""

from __future__ import annotations

import pytest
import torch

from vlp.training.failures import plain_failures
from vlp.training.run import or_exit


def test_a_model_that_no_memory_holds() -> None:
    """A petabyte, asked of torch and of Python."""
    for build in (lambda: torch.empty(2**50, dtype=torch.uint8), lambda: bytearray(2**62)):
        with pytest.raises(SystemExit, match="error: the model does not fit into memory"):
            or_exit(build)


def test_another_error_of_torch_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        or_exit(lambda: torch.ones(2, 3) @ torch.ones(2, 3))


def test_an_operation_that_deterministic_true_forbids_is_named() -> None:
    """``put_`` is one on every device."""
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(SystemExit, match="torch has no deterministic put_ for this device"), plain_failures(rank=0):
            torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
    finally:
        torch.use_deterministic_algorithms(False)
