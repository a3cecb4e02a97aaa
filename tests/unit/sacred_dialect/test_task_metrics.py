"""What a real run writes into metrics.jsonl, against what its batches gave; the running means against torchmetrics'."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics import MeanMetric

from tests.unit.training.small_runs import built, write_data
from vlp.training.run_log import run_directory
from vlp.training.running_mean import RunningMean

STEPS, OF_STEP, EPOCHS = 4, 2, 2  # an epoch has 8 batches
VALUES = ("mlm/train/loss", "mlm/train/accuracy", "itm/train/loss", "itm/train/accuracy")

Values = dict[str, tuple[float, int]]  # tag: value of a batch, how many samples it is the mean of


@given(
    st.lists(st.tuples(st.floats(width=32), st.integers(1, 4096)), max_size=12),
    st.sampled_from(["float32", "bfloat16"]),
)
def test_running_means_are_those_of_torchmetrics_to_the_bit(values: list[tuple[float, int]], dtype: str) -> None:
    """Which an old checkpoint may hold, too."""
    ours, theirs = RunningMean(), MeanMetric(nan_strategy="ignore")
    for value, weight in values:
        for metric in (ours, theirs):
            metric.update(torch.tensor(value, dtype=getattr(torch, dtype)), weight=weight)
    assert ours.metric_state.keys() == theirs.metric_state.keys() == {"mean_value", "weight"}
    for mine, other in ((ours.mean_value, theirs.mean_value), (ours.weight, theirs.weight)):
        assert torch.equal(mine.nan_to_num(nan=7), other.nan_to_num(nan=7))  # inf - inf is NaN, too


def mean(values: Sequence[tuple[float, int]]) -> float:
    """The weighted mean of all values but NaN."""
    known = [(value, weight) for value, weight in values if not math.isnan(value)]
    return math.fsum(value * weight for value, weight in known) / sum(weight for _, weight in known)


def values_of(outputs: dict[str, Any]) -> Values:
    """What the official logs say of a batch, by loops over its samples."""
    values: Values = {}
    for task in ("mlm", "itm"):
        labels, logits = outputs[f"{task}_labels"].tolist(), outputs[f"{task}_logits"].tolist()
        right = [row.index(max(row)) == label for row, label in zip(logits, labels, strict=True)]
        weight = max(len(labels), 1)
        values[f"{task}/train/loss"] = float(outputs[f"{task}_loss"].detach()), weight
        values[f"{task}/train/accuracy"] = (sum(right) / len(right) if right else math.nan), weight
    return values


@pytest.mark.parametrize("log_every", [1, 3])
def test_a_run_logs_what_its_batches_gave(log_every: int, tmp_path: Path) -> None:
    write_data(tmp_path, images=15)
    epochs: dict[str, Any] = {"max_steps": None, "max_epoch": EPOCHS, "val_check_interval": 1.0}
    run = built("meter", tmp_path, log_every_n_steps=log_every, learning_rate=1e-3, mlm_prob=0.08, **epochs)
    forward, batches = run.model.forward, list[Values]()

    def noted(*arguments: Any) -> dict[str, Any]:
        outputs = forward(*arguments)
        if run.model.training:
            batches.append(values_of(outputs))
        return outputs

    run.model.forward = noted  # type: ignore[method-assign]
    run.trainer.fit(run.model, datamodule=run.datamodule)
    assert len(batches) == EPOCHS * STEPS * OF_STEP
    folder = run_directory(run.trainer)
    assert folder is not None
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    of_steps = [line for line in lines if "data/wait_share" in line]
    assert [line["step"] for line in of_steps] == list(range(log_every - 1, EPOCHS * STEPS, log_every))
    for line in of_steps:
        expected = batches[OF_STEP * (line["step"] + 1) - 1]  # the last of the step's batches
        assert line.keys() == {"step", "epoch", "data/wait_share", *VALUES}
        assert line["epoch"] == line["step"] // STEPS and 0 <= line["data/wait_share"] <= 1
        for tag in VALUES:
            assert line[tag] == pytest.approx(expected[tag][0], rel=1e-7, nan_ok=True), tag
    assert any(math.isnan(batch["mlm/train/accuracy"][0]) for batch in batches)

    of_epochs = [line for line in lines if "mlm/train/loss_epoch" in line]
    assert [line["step"] for line in of_epochs] == [STEPS * (epoch + 1) - 1 for epoch in range(EPOCHS)]
    for epoch, line in enumerate(of_epochs):
        of_epoch = batches[epoch * STEPS * OF_STEP : (epoch + 1) * STEPS * OF_STEP]
        expected_means = {f"{tag}_epoch": mean([batch[tag] for batch in of_epoch]) for tag in VALUES}
        accuracies = [value for tag, value in expected_means.items() if "accuracy" in tag]
        expected_means |= {"train/the_metric": sum(accuracies), "epoch": epoch, "step": line["step"]}
        assert line == pytest.approx(expected_means, rel=1e-5)
