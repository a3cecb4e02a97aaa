"""The cost of a row's pre-training, by hand from what ``benchmarks.cost`` measured."""

from __future__ import annotations

import pytest

from benchmarks.cost import RECIPES as COSTS
from benchmarks.cost import measured_of
from reproduce.cost import cost_line, stage_cost
from reproduce.experiments import Experiments, load


@pytest.fixture(scope="module")
def experiments() -> Experiments:
    return load()


def test_hours_by_hand(experiments: Experiments) -> None:
    """METER: 100,000 steps of 4096 pairs at 35 % of 156 TFLOP/s on 32 GPUs."""
    gflop = measured_of(COSTS["meter"])["gflop_per_pair"]["epic"]
    cost = stage_cost(experiments.stage("meter/4m/epic/pretrain"))
    assert cost is not None and cost.gpus == 32
    assert cost.hours == pytest.approx(100_000 * 4096 * gflop * 1e9 / (156e12 * 0.35) / 3600 / 32)


def test_16m_takes_as_much_longer_as_it_has_pairs(experiments: Experiments) -> None:
    def hours(name: str) -> float:
        cost = stage_cost(experiments.stage(f"{name}/vanilla/pretrain"))
        assert cost is not None
        return cost.gpu_hours

    assert hours("albef/16m") / hours("albef/4m") == pytest.approx(30 * 16_219_845 / (300_000 * 512))
    assert hours("xvlm/16m") / hours("xvlm/4m") == pytest.approx(3)
    assert hours("meter/16m") == hours("meter/4m")


def test_a_row_pays_for_its_teacher(experiments: Experiments) -> None:
    row = experiments.row("table1/meter-4m-epic")
    both = [experiments.stages[name] for name in row.stages if name.endswith("pretrain")]
    hours = [cost.hours for stage in both if (cost := stage_cost(stage))]
    assert len(hours) == 2
    assert cost_line(experiments.stages[name] for name in row.stages).startswith(f"32 x A100-80: {sum(hours):,.0f} h, ")
    assert cost_line([experiments.stages["meter/4m/epic/coco_ft"]]) == ""


def test_every_pre_training_has_a_cost(experiments: Experiments) -> None:
    for stage in experiments.stages.values():
        assert (stage_cost(stage) is not None) == (stage.kind == "pretrain"), stage.name
