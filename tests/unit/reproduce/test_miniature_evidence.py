"""What is asked of which runs, and what made-up results answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from epic_common.config import PRESETS
from reproduce.experiments import printed_tables
from reproduce.miniature.claims import CLAIMS, VARIANTS, Printed
from reproduce.miniature.evidence import Answer, answers, beside, fifths, steps_to
from reproduce.miniature.reading import read_results, setting
from tests.unit.reproduce.made_up_runs import (
    STEPS,
    complete,
    made_up_run,
    write_all,
    write_everything,
    write_figure,
    write_figures,
)
from vlp.config.schema import ConfigError


def found(folder: Path) -> dict[str, Answer]:
    """The answers by what they state."""
    return {each.question.statement: each for _, given in answers(read_results(folder)) for each in given}


def test_the_claims_are_those_of_the_paper_and_use_every_variant() -> None:
    names = [claim.name for claim in CLAIMS]
    assert names[:9] == [f"C{n}" for n in range(1, 10)] and len(set(names)) == len(names)
    assert {variant for claim in CLAIMS for _, variant in claim.runs} == set(VARIANTS) >= set(PRESETS)
    claims = {claim.name: claim for claim in CLAIMS}
    assert claims["C4"].runs == [("meter", "itc_rand"), ("meter", "itc_lm")]
    assert claims["C9"].runs == [(name, v) for name in ("meter", "vilt", "albef", "xvlm") for v in ("vanilla", "epic")]
    assert not claims["C1"].runs and not claims["C2"].runs


def test_what_the_paper_prints() -> None:
    printed = [each.printed for claim in CLAIMS for each in claim.questions if isinstance(each.printed, Printed)]
    tables = printed_tables()
    found = [round(each.difference(tables), 3) for each in printed]
    # Tables 4 and 5, zero-shot: ITC (rand.), ITC+LM, EPIC less the line before; EPIC less cond., SAS, fixed, trained.
    ablation = [(0.0 + 1.3) / 2, (0.6 + 2.5) / 2, (0.5 + 1.0) / 2, (0.3 + 0.7) / 2, (1.1 + 2.1) / 2]
    assert found[:7] == pytest.approx([*ablation, (0.5 + 1.4) / 2, (-0.5 + 0.4) / 2])
    assert found[7] == pytest.approx((93.1 - 92.2 + 79.0 - 78.8) / 2) and len(found) == 11


def test_runs_are_paired_by_seed(tmp_path: Path) -> None:
    recalls = {
        "itc_rand": {1: 10, 2: 20, 3: 15, 4: 12, 5: 13, 7: 99},
        "itc_lm": {1: 13, 2: 22, 3: 19, 4: 14, 5: 18, 8: 0},
    }
    write_all(
        tmp_path, (made_up_run("meter", name, seed, r) for name, all in recalls.items() for seed, r in all.items())
    )
    answer = found(tmp_path)["ITC+LM beats ITC (rand.)"]
    assert answer.measured.differences == pytest.approx({1: 3, 2: 2, 3: 4, 4: 2, 5: 5})
    assert answer.verdict == "supported"
    assert answer.measured.interval is not None and answer.measured.interval.mean == pytest.approx(3.2)
    shown = beside(answer.question, read_results(tmp_path))
    assert shown["TR R@1"].first[1] == pytest.approx(14) and shown["IR R@1"].first[1] == pytest.approx(12)
    assert found(tmp_path)["ITC (rand.) beats vanilla"].verdict == "not run enough"


def test_heads_on_foils_are_compared_within_a_run(tmp_path: Path) -> None:
    write_all(tmp_path, (complete("meter", "epic", seed, 10) for seed in range(5)))
    write_all(tmp_path, [complete("meter", "epic", 5, 10, foils=None)])
    answers = found(tmp_path)
    words = answers["the ITC head finds the wrong word"]
    assert words.measured.differences == pytest.approx({seed: 20 + seed for seed in range(5)})
    assert words.measured.second == dict.fromkeys(range(5), 50.0) and words.verdict == "supported"
    captions = answers["the ITC head knows captions from foils better than the ITM head"]
    assert captions.measured.differences == pytest.approx({seed: 5 + seed for seed in range(5)})
    assert captions.measured.interval is not None and captions.measured.interval.mean == pytest.approx(7)
    unread = {"itc": {"auroc": None, "accuracy": 50.0}, "itm": {"accuracy": 50.0}}
    write_all(tmp_path, [complete("meter", "epic", 5, 10, foils=unread)])
    later = found(tmp_path)
    assert 5 not in later["the ITC head finds the wrong word"].measured.differences
    assert later[captions.question.statement].measured.differences[5] == 0


def test_the_fine_tuned_task_stands_beside(tmp_path: Path) -> None:
    runs = [complete("vilt", name, seed, r + seed) for name, r in (("vanilla", 10), ("epic", 8)) for seed in range(5)]
    write_all(tmp_path, runs)
    answer = found(tmp_path)["ViLT: EPIC beats vanilla"]
    assert answer.verdict == "contradicted"
    tuned = beside(answer.question, read_results(tmp_path))["nlvr2, fine-tuned"]
    assert tuned.differences == pytest.approx(dict.fromkeys(range(5), -2.0))


def test_replaced_share_falls_from_the_first_fifth_to_the_last(tmp_path: Path) -> None:
    shares = [0.9, 0.8, *[0.5] * 6, 0.4, 0.2]
    curve = [[step, share] for step, share in enumerate(shares)]
    runs = [made_up_run("meter", "epic", seed, 10, curves={"epic_replaced_share": curve}) for seed in range(5)]
    write_all(tmp_path, [*runs, made_up_run("meter", "epic", 9, 10)])
    answer = found(tmp_path)["|T|/|M| falls during EPIC's training"]
    assert answer.measured.differences == pytest.approx(dict.fromkeys(range(5), 55.0))
    assert answer.verdict == "supported"
    assert fifths([[0, 1.0]] * 4) is None


def test_figure_2a(tmp_path: Path) -> None:
    write_figure(tmp_path, "2a", {seed: ([0.1, 0.8], [0.6, 0.7]) for seed in range(5)})
    answer = found(tmp_path)["the image helps"]
    assert (answer.measured.differences[0], answer.verdict) == (pytest.approx(10), "supported")
    share = found(tmp_path)["text alone finds most of what is found with the image"]
    assert (share.measured.differences[0], share.verdict) == (pytest.approx(100 * 0.7 / 0.8 - 50), "supported")


@pytest.mark.parametrize(("gap", "verdict"), [(0.03, "supported"), (0.08, "contradicted"), (-0.08, "contradicted")])
def test_figure_2b(tmp_path: Path, gap: float, verdict: str) -> None:
    write_figure(tmp_path, "2b", {seed: ([0.0, 0.5 + gap], [0.0, 0.5]) for seed in range(5)})
    answer = found(tmp_path)["both lose alike"]
    assert answer.measured.differences == pytest.approx(dict.fromkeys(range(5), 100 * gap))
    assert answer.verdict == verdict


def test_every_question_has_a_verdict_where_everything_was_run(tmp_path: Path) -> None:
    given = found(write_everything(tmp_path))
    assert "not run enough" not in {each.verdict for each in given.values()}
    for path in (tmp_path / "runs").glob("*_seed5.json"):
        path.unlink()
    write_figures(tmp_path, seeds=4)
    short = found(tmp_path)
    assert {each.verdict for each in short.values()} == {"not run enough"}
    assert {len(each.measured.differences) for each in short.values()} == {4}


def test_steps_to_a_recall() -> None:
    run = made_up_run("meter", "epic", 1, 10)  # mean R@1: a tenth of the step
    assert steps_to(run, 5.0) == pytest.approx(50)
    assert steps_to(run, 10.0) == pytest.approx(100)
    assert steps_to(run, 0.5) == STEPS[0]
    assert steps_to(run, 10.1) is None


def test_runs_of_two_configurations_are_not_mixed(tmp_path: Path) -> None:
    runs = [made_up_run("meter", name, seed, 10) for name in ("vanilla", "itc_rand") for seed in range(5)]
    runs[0] = replace(runs[0], settings={**runs[0].settings, "images": 9})
    write_all(tmp_path, runs)
    results = read_results(tmp_path)
    assert sorted(results.of("meter", "vanilla")) == [1, 2, 3, 4]
    (line,) = results.left_out
    assert "meter_vanilla_seed0" in line and setting(runs[0]) in line and setting(runs[1]) in line
    assert setting(runs[0]) != setting(runs[1]) == setting(runs[-1])
    assert found(tmp_path)["ITC (rand.) beats vanilla"].verdict == "not run enough"


@pytest.mark.parametrize("steps", [200, 100])
def test_runs_of_a_variant_have_one_length_and_the_same_keys_of_epic(tmp_path: Path, steps: int) -> None:
    runs = [made_up_run("meter", "itc_lm", seed, 10) for seed in range(3)]
    points = [{"step": steps, "tr_r1": 50.0, "ir_r1": 50.0}]
    other = made_up_run("meter", "itc_lm", 3, 10, steps=steps, points=points)
    if steps == 100:
        other = replace(other, settings={**other.settings, "epic": {"mask_ratio": 0.9}})
    results = read_results(write_all(tmp_path, [*runs, other]))
    assert sorted(results.of("meter", "itc_lm")) == [0, 1, 2]
    assert len(results.left_out) == 1 and results.left_out[0].startswith(f"meter_itc_lm_seed3: {steps} steps")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": "one"}, "seed is 'one'"),
        ({"points": []}, "points must end at step 100"),
        ({"points": [{"step": 60, "tr_r1": 1.0, "ir_r1": 1.0}]}, "points must end at step 100"),
        ({"points": [{"step": 100, "tr_r1": 1.0}]}, r"points\.0 has no ir_r1"),
        ({"points": [{"step": 100, "tr_r1": float("nan"), "ir_r1": 1.0}]}, r"points\.0\.tr_r1 is nan"),
        ({"variant": "epik"}, "variant is 'epik'; it must be one of vanilla, "),
        ({"salient_mass": "much"}, "salient_mass is 'much'"),
        ({"flops": 3}, "flops"),
    ],
)
def test_a_broken_run_is_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    write_all(tmp_path, [made_up_run("meter", "epic", 1, 10)])
    (path,) = (tmp_path / "runs").glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ConfigError, match=rf"runs/meter_epi\w*.json: .*{says}"):
        read_results(tmp_path)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    write_all(tmp_path, [made_up_run("meter", "epic", 1, 10)])
    (path,) = (tmp_path / "runs").glob("*.json")
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"meter_epic_seed1\.json: is no JSON"):
        read_results(tmp_path)


def test_a_run_that_is_there_twice_is_named(tmp_path: Path) -> None:
    write_all(tmp_path, [made_up_run("meter", "epic", 1, 10)])
    (path,) = (tmp_path / "runs").glob("*.json")
    path.with_name("copy.json").write_text(path.read_text())
    with pytest.raises(ConfigError, match="several files hold the run meter_epic_seed1"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("figure2a.json", "[]", "holds no object"),
        ("figure2a.json", '{"figure": "2a"}', "is no record of Figure 2a"),
        (
            "figure2b.json",
            '{"figure": "2b", "shares": [0, 1], "repeats": [{"seed": 3, "drop": {"with_image": [0]}}]}',
            "seed 3: with_image must have 2 finite values",
        ),
        ("calibration.json", '{"chosen": {}, "tried": [{"baseline": 1}]}', r"tried\.0\.baseline is 1"),
    ],
)
def test_other_broken_files_are_named(tmp_path: Path, file: str, content: str, says: str) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(ConfigError, match=rf"{file}: .*{says}"):
        read_results(tmp_path)
