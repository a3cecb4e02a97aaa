"""The command, for every baseline: what must hold between the variants, and what its file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import step
from benchmarks.baseline import VARIANTS, Steps
from benchmarks.measuring import LEAST
from benchmarks.meter_step import MeterSteps
from benchmarks.step import BASELINES, Setup, main, run_once

# Of eight captions: 15.77 tokens each in RoBERTa's vocabulary, 15.6 in BERT's, one less without [SEP].
TOKENS = {"albef": 117, "meter": 126, "vilt": 125, "xvlm": 117}


CASES = [
    *((baseline, "captions") for baseline in BASELINES),
    ("meter", "full"),
    *(pytest.param(baseline, "full", marks=pytest.mark.slow) for baseline in BASELINES if baseline != "meter"),
]


@pytest.mark.parametrize(("baseline", "lengths"), CASES)
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], baseline: str, lengths: str) -> None:
    file = tmp_path / "step.json"
    main(["--baseline", baseline, "--size", "tiny", "--lengths", lengths, "--flops-only", "--json", str(file)])
    result = json.loads(file.read_text())
    flops = result["flops"]
    assert list(flops) == list(result["seconds"]) == list(result["memory"]) == list(BASELINES[baseline].variants)
    assert set(result["seconds"].values()) == set(result["memory"].values()) == {None}
    assert flops["vanilla_official"] == 1
    cheapest = list(flops)[-1]  # without the teacher
    assert flops["vanilla"] < flops[cheapest] < flops["epic"] < flops["epic_naive"]
    assert flops["vanilla"] < 1
    for name, by_part in result["gflop_per_pair_by_part"].items():
        assert sum(by_part.values()) == pytest.approx(result["gflop_per_pair"][name])
        assert ("teacher" in by_part) == (name in ("epic", "epic_naive"))
    tokens = result["settings"]["counted_tokens"]
    assert tokens == [30] * 8 if lengths == "full" else sum(tokens) == TOKENS[baseline]
    frozen = {name: count["frozen"] for name, count in result["parameters"].items()}
    assert frozen["vanilla"] == frozen[cheapest] < frozen["epic"] == frozen["epic_naive"]
    printed = capsys.readouterr().out
    assert "not measured: --flops-only" in printed and str(file) in printed


@pytest.mark.slow
@pytest.mark.parametrize("baseline", BASELINES)
def test_what_is_measured_of_the_tiny_size(tmp_path: Path, capsys: pytest.CaptureFixture[str], baseline: str) -> None:
    file = tmp_path / "step.json"
    main(["--baseline", baseline, "--size", "tiny", "--json", str(file)])
    result = json.loads(file.read_text())
    kinds = ("seconds", "memory", "memory_accumulating", "operations")
    assert all(value > 0 for kind in kinds for value in result[kind].values())
    assert result["settings"]["repetitions"] >= LEAST
    for name in BASELINES[baseline].variants:
        assert result["host_waits"][name] == sum(result["host_waits_by_operation"][name].values())
        assert abs(result["peak_growth_gib"][name]) < 0.01
        assert result["peak_accumulating_gib"][name] > result["peak_gib"][name]
    printed = capsys.readouterr().out
    assert all(column in printed for column in ("time", "memory", "accum.", "ops", "waits"))
    assert "TFLOP/s" not in printed


def test_times_are_medians_with_their_range_and_ratios_are_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variant twice as slow in the second repetition: ratios do not move, but for the last one's."""
    seconds = dict(zip(MeterSteps.variants, ([2, 4, 3], [1, 2, 1.5], [4, 8, 6], [2, 4, 3], [2, 2, 6]), strict=True))
    monkeypatch.setattr(step, "time_steps", lambda *_: seconds)
    monkeypatch.setattr(step, "count_operations", lambda *_: {})
    monkeypatch.setattr(step, "say", lambda _: None)
    setup = Setup("meter", "tiny", "cpu", "32", ())
    found = step.run(setup, setup.steps("cpu"), [5, 8], None)
    assert list(found["seconds"].values()) == [1, 0.5, 2, 1, 1]
    assert found["seconds_spread"]["vanilla"] == [0.5, 0.5] and found["seconds_spread"]["epic_cached"] == [0.5, 2]
    assert found["seconds_per_pair"]["vanilla_official"] == 1.5
    assert found["seconds_per_pair_spread"]["vanilla_official"] == [1, 2]
    assert found["seconds_by_repetition"]["epic_cached"] == [1, 1, 3]


EVERY_STEP = [(baseline, name) for baseline, steps in BASELINES.items() for name in steps.variants]


@pytest.fixture(scope="module")
def steps(request: pytest.FixtureRequest) -> Steps:
    return BASELINES[request.param]("tiny")


def test_variants_stand_in_the_order_of_the_tables() -> None:
    for found in BASELINES.values():
        assert list(found.variants) == [name for name in VARIANTS if name in found.variants]
        assert found.variants[0] == "vanilla_official"


@pytest.mark.parametrize(("steps", "name"), EVERY_STEP, indirect=["steps"])
def test_a_step_leaves_no_gradient_and_builds_no_model_that_it_does_not_run(steps: Steps, name: str) -> None:
    variant = steps.variant(name)
    models = vars(steps).keys() & {"student", "teacher", "language_model"}
    run_once(variant, steps.batch([5, 8]))
    trained = [p for roots in variant.parts.values() for root in roots for p in root.parameters() if p.requires_grad]
    assert trained and all(p.grad is None for p in trained)
    assert vars(steps).keys() & {"student", "teacher", "language_model"} == models


def test_a_saving_that_is_turned_off_reaches_the_config() -> None:
    assert MeterSteps("tiny").config["reorder_attention"] is True
    config = Setup("meter", "tiny", "cpu", "32", ("pack_text", "reorder_attention")).steps("cpu").config  # type: ignore[attr-defined]
    assert config["pack_text"] is config["reorder_attention"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--baseline", "meter", "--batch", "1"], "image-text matching needs 2 pairs"),
        (["--baseline", "metre"], "invalid choice: 'metre'"),
        (["--baseline", "meter", "--size", "widest"], "meter has official, ablation, tiny"),
        (["--baseline", "vilt", "--size", "ablation"], "vilt has official, widest, tiny"),
        (["--baseline", "vilt", "--without", "reorder_attention"], "--without reorder_attention: vilt has pack_text"),
        (["--baseline", "meter", "--repetitions", "0"], "'0' is not a whole number of 1 or more"),
        (["--baseline", "meter", "--precision", "fp8"], "invalid choice: 'fp8'"),
        ([], "--baseline"),
    ],
)
def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err


def test_a_cpu_computes_in_32_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        main(["--baseline", "meter", "--precision", "bf16"])
    assert "--precision bf16: torch sees no GPU here" in capsys.readouterr().err
