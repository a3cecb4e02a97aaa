"""The schedule of docs/official/meter.md §6 against transformers' own schedules, and at its corners."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup, get_polynomial_decay_schedule_with_warmup

from vlp.training.schedules import lr_multiplier, resolve_warmup, schedule


def optimizer(lr: float = 1e-3) -> torch.optim.SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr * multiple} for multiple in (1, 5)]
    return torch.optim.SGD(groups, lr=lr)


@pytest.mark.parametrize(("power", "end_lr"), [(1, 0.0), (2, 1e-5), ("cosine", 0.0)])
def test_equals_transformers_at_every_step(power, end_lr: float) -> None:  # type: ignore[no-untyped-def]
    ours, theirs = optimizer(), optimizer()
    mine = schedule(ours, 1e-3, 50, 0.1, power, end_lr)
    official = (
        get_cosine_schedule_with_warmup(theirs, 5, 50)
        if power == "cosine"
        else get_polynomial_decay_schedule_with_warmup(theirs, 5, 50, lr_end=end_lr, power=power)
    )
    for step in range(51):
        rates = [[group["lr"] for group in o.param_groups] for o in (ours, theirs)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-9, abs=1e-18), step
        for o, s in ((ours, mine), (theirs, official)):
            o.step()
            s.step()


@given(
    st.integers(2, 5000),
    st.floats(0, 1),
    st.one_of(st.floats(0.5, 3), st.just("cosine")),
    st.floats(0, 0.9),
)
def test_continuous_and_never_above_one(max_steps: int, share: float, power, end: float) -> None:  # type: ignore[no-untyped-def]
    warmup = resolve_warmup(share, max_steps)
    values = [
        lr_multiplier(t, max_steps=max_steps, warmup_steps=warmup, power=power, end_lr_ratio=end)
        for t in range(max_steps + 3)
    ]
    floor = 0.0 if power == "cosine" else end
    assert all(0 <= value <= 1 for value in values)
    assert values[: warmup + 1] == sorted(values[: warmup + 1]) or warmup == max_steps
    assert values[warmup:] == sorted(values[warmup:], reverse=True)
    assert values[max_steps:] == [floor] * 3
    if warmup < max_steps:
        assert values[warmup] == pytest.approx(1)
        assert values[0] == (0 if warmup else pytest.approx(1))


def test_warmup_is_steps_or_a_fraction() -> None:
    assert resolve_warmup(0.1, 100_000) == 10_000
    assert resolve_warmup(0.1, 50_000) == 5_000
    assert resolve_warmup(2500, 100_000) == 2500
    with pytest.raises(ValueError, match="fraction of max_steps"):
        resolve_warmup(2500.0, 100_000)
    with pytest.raises(ValueError, match="negative"):
        resolve_warmup(-1, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps=0"),
        ({"end_lr": 1e-3}, "below learning_rate"),
        ({"decay_power": "linear"}, "'cosine'"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, object], message: str) -> None:
    settings = {"learning_rate": 1e-3, "max_steps": 10, "warmup_steps": 1, **options}
    with pytest.raises(ValueError, match=message):
        schedule(optimizer(), **settings)  # type: ignore[arg-type]
