"""What is legal and hardly meant gets a line that names the key; what the data do not allow is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epic_vlp.notices import odd_settings as odd_settings_of_epic
from meter.baseline import BASELINE as METER
from meter.config import MeterKeys
from vlp.config.schema import defaults
from vlp.sacred_dialect.notices import batches_per_epoch, check_validation, odd_settings

BASE = {**defaults(MeterKeys), "per_gpu_batchsize": 8, "num_gpus": 2, "batch_size": 32}
BATCHES = 10  # of each process in an epoch: 5 optimiser steps


def config(**changes: Any) -> dict[str, Any]:
    return {**BASE, **changes}


def test_usual_settings_are_passed_over() -> None:
    assert not list(odd_settings(BASE, BATCHES))
    assert not list(odd_settings_of_epic(METER, BASE))


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"datasets": ["coco", "vg", "coco"]}, ["reads coco more than once: its pairs count double"]),
        ({"batch_size": 40}, ["batch_size=40, but an optimiser step has 32 pairs: 2 x per_gpu_batchsize=8 x 2"]),
        ({"batch_size": 8}, ["batch_size=8, but an optimiser step has 16 pairs: 1 x per_gpu_batchsize=8 x 2"]),
        ({"batch_size": 176}, ["batch_size=176 accumulates 11 batches, but an epoch has 10"]),
        ({"batch_size": 160}, ["batch_size=160 makes a whole epoch (10 batch(es) a process) one optimiser step"]),
        ({"max_steps": 100, "warmup_steps": 100}, ["warmup_steps=100 is no shorter than the run of 100 optimiser"]),
        (
            {"max_steps": None, "max_epoch": 3, "warmup_steps": 15},
            ["warmup_steps=15 is no shorter than the run of 15 optimiser steps"],
        ),
        ({"warmup_steps": 1.0}, ["warmup_steps=1.0 is a fraction, the whole run"]),
        ({"load_path": "a.ckpt", "resume_from": "b.ckpt"}, ["load_path=a.ckpt is not read"]),
    ],
)
def test_what_is_hardly_meant_has_its_line(changes: dict[str, Any], lines: list[str]) -> None:
    found = list(odd_settings(config(**changes), BATCHES))
    assert len(found) == len(lines)
    for line, words in zip(found, lines, strict=True):
        assert words in line


@pytest.mark.parametrize("changes", [{"max_steps": 101, "warmup_steps": 100}, {"batch_size": 144}])
def test_what_is_just_meant_has_none(changes: dict[str, Any]) -> None:
    assert not list(odd_settings(config(**changes), BATCHES))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"epic": {"mask_ratio": 0.5}}, "EPIC is off, so epic.mask_ratio=0.5 does nothing: the named config epic"),
        ({"teacher_path": "t.ckpt"}, "EPIC is off, so teacher_path=t.ckpt does nothing"),
        ({"epic": {"enabled": True, "mask_ratio": 0.0}}, "epic.mask_ratio=0 masks no token"),
        ({"epic": {"enabled": True, "itc_weight": 0.0}}, "epic.itc_weight=0 leaves EPIC's loss out"),
        (
            {"epic": {"enabled": True, "masking": "uniform"}, "teacher_path": "t.ckpt"},
            "teacher_path=t.ckpt is not read: epic.masking='uniform' asks no teacher",
        ),
    ],
)
def test_what_is_hardly_meant_of_epic(changes: dict[str, Any], line: str) -> None:
    (found,) = odd_settings_of_epic(METER, config(**changes))
    assert found.startswith(line)


@given(samples=st.integers(1, 500), processes=st.integers(1, 4), batch=st.integers(1, 16))
def test_batches_of_an_epoch_are_those_of_the_rank_that_has_most(samples: int, processes: int, batch: int) -> None:
    """Every rank has the same number of samples: some have one twice."""
    longest = max(len(range(rank, samples, processes)) for rank in range(processes))
    batches = len(range(0, longest, batch))
    assert batches_per_epoch(config(num_gpus=processes, per_gpu_batchsize=batch), samples) == batches


def test_a_validation_that_no_epoch_reaches_is_refused() -> None:
    for interval in (10, 1, 1.0, 0.001):
        check_validation(config(val_check_interval=interval), BATCHES)
    with pytest.raises(ValueError, match=r"val_check_interval=11 is more than the 10 batches"):
        check_validation(config(val_check_interval=11), BATCHES)
