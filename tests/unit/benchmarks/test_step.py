"""The command, for every baseline: what must hold between the variants, and what its file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.baseline import VARIANTS
from benchmarks.step import BASELINES, main

TOKENS = {"meter": 126, "vilt": 125}  # of eight captions: 15.77 tokens each in RoBERTa's vocabulary, 15.6 in BERT's


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
    assert list(flops) == list(result["seconds"]) == list(result["memory"]) == list(VARIANTS)
    assert set(result["seconds"].values()) == set(result["memory"].values()) == {None}
    assert flops["vanilla_official"] == 1
    assert flops["vanilla"] < flops["epic_cached"] < flops["epic"] < flops["epic_naive"]
    assert flops["vanilla"] < 1
    for name, by_part in result["gflop_per_pair_by_part"].items():
        assert sum(by_part.values()) == pytest.approx(result["gflop_per_pair"][name])
        assert ("teacher" in by_part) == (name in ("epic", "epic_naive"))
    tokens = result["settings"]["counted_tokens"]
    assert tokens == [30] * 8 if lengths == "full" else sum(tokens) == TOKENS[baseline]
    frozen = {name: count["frozen"] for name, count in result["parameters"].items()}
    assert frozen["vanilla"] == frozen["epic_cached"] == 0 < frozen["epic"] == frozen["epic_naive"]
    printed = capsys.readouterr().out
    assert "not measured: --flops-only" in printed and str(file) in printed


@pytest.mark.slow
@pytest.mark.parametrize("baseline", BASELINES)
def test_time_and_memory_of_the_tiny_size(tmp_path: Path, baseline: str) -> None:
    file = tmp_path / "step.json"
    main(["--baseline", baseline, "--size", "tiny", "--json", str(file)])
    result = json.loads(file.read_text())
    assert all(value > 0 for kind in ("seconds", "memory") for value in result[kind].values())
    assert result["settings"]["repetitions"] >= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--baseline", "meter", "--batch", "1"], "image-text matching needs 2 pairs"),
        (["--baseline", "metre"], "invalid choice: 'metre'"),
        (["--baseline", "meter", "--size", "widest"], "--size widest: meter has official, ablation, tiny"),
        (["--baseline", "vilt", "--size", "ablation"], "vilt has official, widest, tiny"),
        ([], "--baseline"),
    ],
)
def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err
