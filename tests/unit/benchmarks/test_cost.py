"""The cost calculator against hand-computed cases; what it reads is what the step benchmark counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import cost
from benchmarks.cost import (
    MEASURED,
    RECIPES,
    Recipe,
    cost_of,
    gpu_hours,
    implied_utilisation,
    main,
    measured_of,
    weights_gib,
)
from benchmarks.gpus import Gpu
from benchmarks.step import BASELINES, count, sentence_lengths

SHORT = Recipe("3600 pairs", 10, 360, "short.json")
GPU = Gpu("sheet", 16, 1.0, 8.0)


def test_hours_by_hand() -> None:
    # 3600 pairs of 1 TFLOP on half of 1 TFLOP/s: 7200 s.
    assert gpu_hours(SHORT, 1000, peak=1.0, utilisation=0.5) == pytest.approx(2.0)
    # The same work within 12 hours on 2 GPUs keeps a 24th of 1 TFLOP/s busy.
    assert implied_utilisation(SHORT, 1000, peak=1.0, gpus=2, days=0.5) == pytest.approx(1 / 24)


def test_memory_by_hand() -> None:
    # 64 Mi trained parameters: 256 MiB of weights, as much of gradients, twice that of moments.
    assert weights_gib(trained=2**26, frozen=0) == 1.0
    assert weights_gib(trained=2**26, frozen=2**28) == 2.0


def test_a_variant_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {
        "gflop_per_pair": {"epic": 500.0},
        "activations_gib_per_pair": {"epic": 0.25},
        "parameters": {"epic": {"trained": 2**27, "frozen": 2**28}},
    }
    (tmp_path / "short.json").write_text(json.dumps(measured))
    monkeypatch.setattr(cost, "MEASURED", tmp_path)
    found = cost_of(SHORT, "epic", GPU, gpus=4, utilisation=0.5, pairs_per_gpu=8)
    assert found.gpu_hours == pytest.approx({"fp32": 1.0, "tf32": 0.125, "bf16": None})
    assert found.days == pytest.approx({"fp32": 1 / 96, "tf32": 1 / 768, "bf16": None})
    assert (found.gflop_per_pair, found.weights_gib, found.activations_gib) == (500.0, 3.0, 2.0)


def test_a_step_of_regions_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside every second step of 500 GFLOP a pair one of 200: 600; the memory is that of the larger step."""
    measured = {
        "gflop_per_pair": {"epic": 500.0, "epic_naive": 1000.0, "region": 200.0, "region_official": 600.0},
        "activations_gib_per_pair": {"epic": 0.25, "epic_naive": 0.5, "region": 0.375, "region_official": 0.25},
        "parameters": {variant: {"trained": 0, "frozen": 0} for variant in ("epic", "epic_naive")},
    }
    (tmp_path / "short.json").write_text(json.dumps(measured))
    monkeypatch.setattr(cost, "MEASURED", tmp_path)
    of_regions = SHORT._replace(regions=0.5)
    epic, naive = (cost_of(of_regions, variant, GPU, 1, 0.5, 8) for variant in ("epic", "epic_naive"))
    assert (epic.gflop_per_pair, epic.activations_gib) == (600.0, 3.0)
    assert (naive.gflop_per_pair, naive.activations_gib) == (1300.0, 4.0)
    assert epic.gpu_hours["fp32"] == pytest.approx(1.2)  # 3600 pairs of 0.6 TFLOP on half of 1 TFLOP/s


@given(
    st.sampled_from(sorted(RECIPES)),
    st.floats(1, 1e4),
    st.floats(1, 1e3),
    st.floats(0.01, 1),
    st.integers(1, 512),
)
def test_the_implied_utilisation_undoes_the_hours(
    name: str, gflop: float, peak: float, utilisation: float, gpus: int
) -> None:
    days = gpu_hours(RECIPES[name], gflop, peak, utilisation) / gpus / 24
    assert implied_utilisation(RECIPES[name], gflop, peak, gpus, days) == pytest.approx(utilisation)


def test_the_paper_s_four_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """32 A100 for 4 days at 156 TFLOP/s of TF32 are 1.725e21 FLOP; the naive step needs 4.551e20."""
    file = tmp_path / "cost.json"
    main(["--recipe", "meter", "--gpus", "64", "--json", str(file)])
    result = json.loads(file.read_text())
    assert result["paper"]["meter"]["tf32"] == pytest.approx(4.551e20 / 1.725e21, rel=2e-3)
    assert result["paper"]["meter"]["fp32"] > 1
    assert list(result["recipes"]) == ["meter"] and list(result["recipes"]["meter"]) == list(
        BASELINES["meter"].variants
    )
    assert result["gpus"] == 64 and result["gpu"]["name"] == "A100-80"
    printed = capsys.readouterr().out
    assert "precision=32 computes in tf32" in printed
    assert "4 days on 32 A100-80" in printed and "Assumed: 35% of the peak" in printed


def test_a_gpu_without_a_precision_has_no_hours_of_it(tmp_path: Path) -> None:
    file = tmp_path / "cost.json"
    main(["--gpu", "V100-32", "--utilisation", "0.5", "--json", str(file)])
    for costs in json.loads(file.read_text())["recipes"].values():
        for found in costs.values():
            assert found["gpu_hours"]["fp32"] > 0
            assert found["gpu_hours"]["tf32"] is found["days"]["bf16"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--recipe", "metre"], "'metre' is unknown; the nearest is 'meter'"),
        (["--gpu", "A100-81"], "'A100-81' is unknown; the nearest is 'A100-80'"),
        (["--gpu", "h100"], "'h100' is unknown; the nearest is 'H100-80'"),
        (["--gpus", "0"], "'0' is not a whole number of 1 or more"),
        (["--utilisation", "35"], "'35' is not a share above 0, at most 1"),
        (["--utilisation", "half"], "'half' is not a share above 0, at most 1"),
    ],
)
def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err


def test_it_runs_without_torch() -> None:
    code = "import sys; from benchmarks.cost import main; main([]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", RECIPES)
def test_the_measured_files_are_whole(name: str) -> None:
    measured, size = measured_of(RECIPES[name]), RECIPES[name].measured
    assert f"{measured['settings']['baseline']}_{measured['settings']['size']}.json" == size
    assert measured["settings"]["lengths"] == "captions"
    variants = BASELINES[measured["settings"]["baseline"]].variants
    assert list(measured["flops"]) == list(variants)
    assert all(measured["activations_gib_per_pair"][variant] > 0 for variant in variants)


# Shares of the official step that were set before any was measured.
TARGETS = {
    "meter_official": {"vanilla": 0.74, "epic": 1.06, "epic_cached": 0.93},
    "vilt_official": {"vanilla": 0.84, "epic": 1.40, "epic_cached": 1.28},
    "albef_official": {"vanilla": 0.83, "epic": 1.08, "epic_momentum": 0.90},
    "xvlm_official": {"vanilla": 0.74, "epic": 1.05, "epic_cached": 0.85},
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_measured_flops_meet_their_targets(name: str) -> None:
    flops = json.loads((MEASURED / f"{name}.json").read_text())["flops"]
    assert all(flops[variant] <= most for variant, most in TARGETS[name].items())


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(MEASURED.glob("*.json")), ids=lambda file: file.stem)
def test_the_measured_flops_are_those_of_the_code(file: Path) -> None:
    measured = json.loads(file.read_text())
    steps = BASELINES[measured["settings"]["baseline"]](measured["settings"]["size"])
    lengths = sentence_lengths(steps, "captions", len(measured["settings"]["counted_tokens"]))
    assert lengths == measured["settings"]["counted_tokens"]
    for variant in steps.variants:
        counted = sum(count(steps, variant, lengths).values())
        assert counted == pytest.approx(measured["gflop_per_pair"][variant], rel=1e-3), variant
