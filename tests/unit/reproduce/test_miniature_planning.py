"""Which runs are made: those of claims, each once, none that is there, none that another process makes."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reproduce import state
from reproduce.miniature import calibrate, planning
from reproduce.miniature.calibrate import LEAST, MOST, asked_of, calibrated
from reproduce.miniature.commands import each_once, epic_items
from reproduce.miniature.places import Bench, waiting_lock
from reproduce.miniature.points import LAST, KeptCheckpoints
from reproduce.miniature.results import CALIBRATION, RUNS, Run, read_runs, write_run
from reproduce.miniature.runs import Planned, clear, curve_steps
from reproduce.miniature.settings import VARIANTS, read_settings
from vlp.config.schema import ConfigError
from vlp.files import write_json

SETTINGS = read_settings()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench("meter", SETTINGS.baseline("meter"), SETTINGS, tmp_path / "work", tmp_path / "results")


def made(planned: Planned) -> Run:
    """A run as it would be made."""
    points = [{"step": planned.steps, "tr_r1": 20.0, "ir_r1": 10.0}]
    code: dict[str, Any] = {"commit": "0" * 40, "dirty": False}
    return Run(
        *(planned.bench.name, planned.variant, planned.seed, planned.steps, planned.config_hash),
        **code,
        command=["python"],
        settings=planned.settings,
        points=points,
    )


@pytest.fixture
def makes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are made; nothing is trained."""
    names: list[str] = []

    def make(planned: Planned) -> Run:
        names.append(planned.name)
        return made(planned)

    monkeypatch.setattr(planning, "make_run", make)
    monkeypatch.setattr(planning, "ready", lambda planned: planned)
    return names


def test_a_claim_needs_its_variants_and_claims_share_runs() -> None:
    assert planning.wanted_runs(SETTINGS, ["C3"]) == [("meter", "vanilla"), ("meter", "itc_rand")]
    both = planning.wanted_runs(SETTINGS, ["C3", "C4"])
    assert both == [("meter", "vanilla"), ("meter", "itc_rand"), ("meter", "itc_lm")]
    every = planning.wanted_runs(SETTINGS, [])
    assert len(every) == len(set(every))
    assert {variant for _, variant in every} == {*VARIANTS}
    assert {("albef", "epic"), ("xvlm", "vanilla_compute"), ("vilt", "vanilla")} <= {*every}
    with pytest.raises(ConfigError, match=r"'C33' is no claim.*C3"):
        planning.wanted_runs(SETTINGS, ["C33"])


def test_seeds_come_one_after_the_other_so_that_pairs_are_complete_early(bench: Bench) -> None:
    planned = planning.plan({"meter": bench}, planning.wanted_runs(SETTINGS, ["C3"]), [1, 2])
    assert [(each.variant, each.seed) for each in planned] == [
        ("vanilla", 1),
        ("itc_rand", 1),
        ("vanilla", 2),
        ("itc_rand", 2),
    ]
    assert {each.steps for each in planned} == {bench.settings.steps}


def test_a_run_that_is_there_is_skipped_and_one_of_other_settings_made_again(bench: Bench, makes: list[str]) -> None:
    planned = planning.plan({"meter": bench}, [("meter", "vanilla"), ("meter", "epic")], [1])
    planning.run_all(planned)
    planning.run_all(planned)
    assert makes == ["meter_vanilla_seed1", "meter_epic_seed1"]
    assert [run.name for run in read_runs(bench.results)] == ["meter_epic_seed1", "meter_vanilla_seed1"]
    other = replace(bench, settings=bench.settings.model_copy(update={"steps": bench.settings.steps + 5}))
    planning.run_all(planning.plan({"meter": other}, [("meter", "vanilla")], [1]))
    assert makes == ["meter_vanilla_seed1", "meter_epic_seed1", "meter_vanilla_seed1"]


def test_a_run_that_another_process_makes_is_left_to_it(
    bench: Bench, makes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = planned = planning.plan({"meter": bench}, [("meter", "vanilla")], [1, 2])
    with state.locked(first.folder):
        planning.run_all(planned)
    assert makes == [second.name]
    assert f"[1/2] {first.name}: another process makes it" in capsys.readouterr().out


def test_the_hash_is_that_of_settings_variant_and_seed(bench: Bench) -> None:
    planned = Planned(bench, "epic", 1, 100)
    others = [
        replace(planned, seed=2),
        replace(planned, variant="itc_lm"),
        replace(planned, bench=replace(bench, name="vilt")),
        replace(planned, bench=replace(bench, settings=bench.settings.model_copy(update={"rate": 1.0}))),
    ]
    assert len({each.config_hash for each in (planned, *others)}) == len(others) + 1
    tried = bench.settings.model_copy(update={"tried": [{"steps": 5}]})
    assert replace(planned, bench=replace(bench, settings=tried)).config_hash == planned.config_hash


def calibration(results: Path, of: str, tr_r1: float) -> None:
    tried = {
        "baseline": "meter",
        "settings": {"steps": 50},
        "tr_r1": tr_r1,
        "ir_r1": 20.0,
        "seconds": 1.0,
        "commit": "",
    }
    chosen = {"meter": {"changes": {"steps": 50}, "of": of}}
    write_json(results / CALIBRATION, {"chosen": chosen, "tried": [tried]})


def test_nothing_runs_before_its_calibration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="meter is not calibrated: run python -m reproduce miniature calibrate"):
        calibrated(SETTINGS, "meter", tmp_path)
    calibration(tmp_path, "another", 20.0)
    with pytest.raises(ConfigError, match="meter was calibrated with other settings"):
        calibrated(SETTINGS, "meter", tmp_path)
    calibration(tmp_path, asked_of(SETTINGS, "meter"), 2 * LEAST - 20.1)
    with pytest.raises(ConfigError, match=r"meter: mean R@1 9\.9 %, below 10 to 40 %.*calibrate again"):
        calibrated(SETTINGS, "meter", tmp_path)
    calibration(tmp_path, asked_of(SETTINGS, "meter"), 2 * MOST - 20.0)
    assert calibrated(SETTINGS, "meter", tmp_path).steps == 50
    (tmp_path / CALIBRATION).write_text("{}")
    with pytest.raises(ConfigError, match="is no calibration"):
        calibrated(SETTINGS, "meter", tmp_path)


def test_a_calibration_stands_beside_those_that_others_wrote_meanwhile(tmp_path: Path) -> None:
    calibration(tmp_path, asked_of(SETTINGS, "meter"), 20.0)
    mine = {"baseline": "vilt", "settings": {}, "tr_r1": 20.0, "ir_r1": 20.0, "seconds": 1.0, "commit": ""}
    for _ in range(2):  # the second takes the place of the first
        calibrate.note(tmp_path, "vilt", [mine], {"changes": {}, "of": asked_of(SETTINGS, "vilt")})
    assert calibrated(SETTINGS, "meter", tmp_path).steps == 50
    assert calibrated(SETTINGS, "vilt", tmp_path) == SETTINGS.baseline("vilt")


def test_calibrate_looks_at_vanilla_alone_and_chooses_the_middle(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, int, bool]] = []

    def make(planned: Planned, only_last: bool) -> Run:
        seen.append((planned.variant, planned.seed, only_last))
        recall = {5: 9.0, 10: 24.0, 15: 44.0}[planned.steps]
        return replace(made(planned), points=[{"step": planned.steps, "tr_r1": recall, "ir_r1": recall}])

    monkeypatch.setattr(calibrate, "make_run", make)
    monkeypatch.setattr(calibrate.data, "prepare", lambda bench: None)
    tried = bench.settings.model_copy(update={"tried": [{"steps": n} for n in (5, 10, 15)]})
    settings = SETTINGS.model_copy(update={"baselines": {"meter": tried}})
    assert calibrate.calibrate(settings, ["meter"], bench.work, bench.results)
    assert seen == [("vanilla", settings.calibration_seed, True)] * 3
    assert calibrated(settings, "meter", bench.results).steps == 10
    assert "mean R@1 44.0 %, above 10 to 40 %" in capsys.readouterr().out
    settings.baselines["meter"] = tried.model_copy(update={"tried": [{"steps": 5}]})
    assert not calibrate.calibrate(settings, ["meter"], bench.work, bench.results)


def test_the_points_are_equally_far_apart_and_end_at_the_budget() -> None:
    assert curve_steps(800, 5) == [160, 320, 480, 640, 800]
    assert curve_steps(1003, 5) == [200, 400, 600, 800, 1003]


def test_every_last_checkpoint_is_kept_under_its_step(tmp_path: Path) -> None:
    last = tmp_path / "run" / "version_0" / LAST
    last.parent.mkdir(parents=True)
    with KeptCheckpoints(tmp_path / "run", tmp_path / "points") as kept:
        for step in (4, 8, 8, 12):
            torch.save({"global_step": step, "at": time.time_ns()}, tmp_path / "new")
            os.replace(tmp_path / "new", last)
            time.sleep(0.5)
        torch.save({"global_step": 14}, tmp_path / "new")  # the last one comes as the block ends
        os.replace(tmp_path / "new", last)
    found = kept.by_step()
    assert [*found] == [4, 8, 12, 14]
    assert [torch.load(path)["global_step"] for path in found.values()] == [4, 8, 12, 14]


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with waiting_lock(tmp_path / "x.lock"):
            order.append("second")

    with waiting_lock(tmp_path / "x.lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_variant_is_made_by_epic_s_own_keys(bench: Bench) -> None:
    assert epic_items(bench, "vanilla", None) == epic_items(bench, "vanilla_compute", None) == []
    assert epic_items(bench, "epic", Path("/t.ckpt")) == ["epic.enabled=True", "teacher_path=/t.ckpt"]
    albef = replace(bench, name="albef")
    assert epic_items(albef, "surprise", None) == ["epic.enabled=True", "epic.masking=surprise"]
    (generator,) = [item for item in epic_items(bench, "lm_trained", None) if item.startswith("epic.generator=")]
    assert generator.endswith("/data/fitted-tiny")
    teachers = {name for name in VARIANTS if Planned(bench, name, 1, 1).needs_teacher}
    assert teachers == {"epic", "lm_fixed", "lm_trained", "lm_cond", "vlm_sas"}


def test_of_a_key_that_is_there_twice_the_last_value_counts() -> None:
    items = ["clip16", "tiny", "a=1", "--seed", "4", "b=2", "a=3", "clip16"]
    assert each_once(items) == ["clip16", "tiny", "a=3", "--seed", "4", "b=2", "clip16"]


def test_a_folder_is_cleared_but_for_its_lock(tmp_path: Path) -> None:
    (tmp_path / "run" / "deep").mkdir(parents=True)
    for name in (".stage.lock", "log.log"):
        (tmp_path / name).touch()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".stage.lock"]


def test_a_file_that_is_no_run_is_named_with_what_to_do(bench: Bench) -> None:
    path = write_run(bench.results, made(Planned(bench, "epic", 1, 100)))
    assert [run.variant for run in read_runs(bench.results)] == ["epic"]
    assert path == bench.results / RUNS / "meter_epic_seed1.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"meter_epic_seed1\.json: is no JSON"):
        read_runs(bench.results)
