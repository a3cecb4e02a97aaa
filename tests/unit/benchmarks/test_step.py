"""The official step's FLOPs by a closed formula, what must hold between the variants, the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.baseline import VARIANTS
from benchmarks.counting import count_flops
from benchmarks.meter_step import MeterSteps
from benchmarks.step import main

# The tiny METER: 64 px in patches of 16 and a class token, 30 tokens, width 128, MLP 512, 1000 words.
PIXELS, PATCH, N, D, MLP, VOCAB = 64, 16, 30, 128, 512, 1000
P = (PIXELS // PATCH) ** 2 + 1
VIT, TEXT, FUSION = 4, 2, 3  # layers
FORWARD, BOTH = 1, 3  # a product's backward is two products: for either factor


def linear(rows: int, width_in: int, width_out: int) -> int:
    return 2 * rows * width_in * width_out


def attention(queries: int, keys: int) -> int:
    """Scores, and the weighted sum of the values."""
    return 2 * (2 * queries * keys * D)


def block(rows: int, context: int | None = None) -> int:
    """Self-attention, cross-attention to ``context`` rows if given, and the MLP."""
    flops = 4 * linear(rows, D, D) + attention(rows, rows) + 2 * linear(rows, D, MLP)
    if context is not None:
        flops += 2 * linear(rows, D, D) + 2 * linear(context, D, D) + attention(rows, context)
    return flops


def official_step() -> int:
    """FLOPs of one pair: an MLM pass and an ITM pass, forward and backward, everything computed at all positions."""
    patches = linear(P - 1, 3 * PATCH * PATCH, D)
    unread = linear(1, D, D)  # the text encoder's own pooler
    encoders = BOTH * (VIT * block(P) + TEXT * block(N)) + 2 * patches + unread  # no gradient for the pixels
    transforms = BOTH * (linear(N, D, D) + linear(P, D, D))
    all_but_last = BOTH * (FUSION - 1) * (block(N, P) + block(P, N))
    text_last, image_last, poolers = block(N, P), block(P, N), 2 * linear(1, D, D)
    mlm_head, itm_head = linear(N, D, D) + linear(N, D, VOCAB), linear(1, 2 * D, 2)
    # MLM reads neither the last image layer nor the poolers: they have no backward there.
    mlm = BOTH * (text_last + mlm_head) + FORWARD * (image_last + poolers)
    itm = BOTH * (text_last + image_last + poolers + itm_head)
    return 2 * (encoders + transforms + all_but_last) + mlm + itm


def teacher_forward() -> int:
    patches = linear(P - 1, 3 * PATCH * PATCH, D)
    encoders = VIT * block(P) + TEXT * block(N) + patches + linear(N, D, D) + linear(P, D, D)
    return encoders + FUSION * (block(N, P) + block(P, N)) + 3 * linear(1, D, D)


def flops_of(steps: MeterSteps, name: str, lengths: list[int]) -> int:
    variant, batch = steps.variant(name), steps.batch(lengths)
    return sum(count_flops(lambda: variant.step(batch), variant.parts).values())


@pytest.fixture(scope="module")
def steps() -> MeterSteps:
    return MeterSteps("tiny")


@pytest.mark.parametrize("lengths", [[N, N], [5, 12]], ids=["full", "padded"])
def test_the_official_step_costs_what_its_shapes_say(steps: MeterSteps, lengths: list[int]) -> None:
    """At any length: the official code computes its padding."""
    assert flops_of(steps, "vanilla_official", lengths) == len(lengths) * official_step()


def test_the_naive_teacher_runs_its_whole_forward(steps: MeterSteps) -> None:
    variant, batch = steps.variant("epic_naive"), steps.batch([5, 12])
    assert count_flops(lambda: variant.step(batch), variant.parts)["teacher"] == 2 * teacher_forward()


@pytest.mark.parametrize("lengths", ["captions", "full"])
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], lengths: str) -> None:
    file = tmp_path / "step.json"
    main(["--baseline", "meter", "--size", "tiny", "--lengths", lengths, "--flops-only", "--json", str(file)])
    result = json.loads(file.read_text())
    flops = result["flops"]
    assert list(flops) == list(result["seconds"]) == list(result["memory"]) == list(VARIANTS)
    assert set(result["seconds"].values()) == set(result["memory"].values()) == {None}
    assert flops["vanilla_official"] == 1
    assert flops["vanilla"] < flops["epic_cached"] < flops["epic"] < flops["epic_naive"]
    assert flops["vanilla"] < 1
    assert result["gflop_per_pair"]["vanilla_official"] == pytest.approx(official_step() / 1e9)
    for name, by_part in result["gflop_per_pair_by_part"].items():
        assert sum(by_part.values()) == pytest.approx(result["gflop_per_pair"][name])
        assert ("teacher" in by_part) == (name in ("epic", "epic_naive"))
    tokens = result["settings"]["counted_tokens"]
    assert tokens == [N] * 8 if lengths == "full" else sum(tokens) == 126  # 15.77 tokens a caption
    frozen = {name: count["frozen"] for name, count in result["parameters"].items()}
    assert frozen["vanilla"] == frozen["epic_cached"] == 0 < frozen["epic"] == frozen["epic_naive"]
    printed = capsys.readouterr().out
    assert "not measured: --flops-only" in printed and str(file) in printed


@pytest.mark.slow
def test_time_and_memory_of_the_tiny_size(tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    main(["--baseline", "meter", "--size", "tiny", "--json", str(file)])
    result = json.loads(file.read_text())
    assert all(value > 0 for kind in ("seconds", "memory") for value in result[kind].values())
    assert result["settings"]["repetitions"] >= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--baseline", "meter", "--batch", "1"], "image-text matching needs 2 pairs"),
        (["--baseline", "metre"], "invalid choice: 'metre'"),
        (["--baseline", "meter", "--size", "small"], "--size small: meter has official, ablation, tiny"),
        ([], "--baseline"),
    ],
)
def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err
