"""The small commands of all stages: accepted by their baselines, with the official data sets and choices of EPIC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo.task_recipes_xvlm import lines
from reproduce.configs import resolved_config
from reproduce.experiments import WITH_LISTS, Experiments, Places, load
from reproduce.scenes import at_scale
from reproduce.scenes_data import FORMS, LINES, settings_of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root whose data is as far there as commands depend on it."""
    root = tmp_path_factory.mktemp("scenes")
    for baseline in FORMS:
        settings = settings_of(baseline, "smoke", root)
        settings.language_model.mkdir(parents=True, exist_ok=True)
        (settings.language_model / "config.json").write_text('{"vocab_size": 700}')
    made = lines(settings_of("xvlm", "smoke", root))
    made.mkdir(parents=True)
    for name in ("coco", *LINES):
        manifest = {"files": {"a": {"rows": 30, "captions": 60}, "b": {"rows": 10, "captions": 20}}}
        (made / f"{name}.manifest.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture(scope="module")
def small(root: Path) -> Experiments:
    return at_scale(load(), "smoke", root)


def configs(experiments: Experiments, name: str, root: Path) -> dict[str, Any]:
    stage = experiments.stage(name)
    return resolved_config(stage, experiments.resolved(stage, Places(Path("/data"), root)))


def test_every_small_command_is_one_that_its_baseline_takes(small: Experiments, root: Path) -> None:
    official, seen = load(), set()
    for stage in small.stages.values():
        template = (stage.baseline, "ablation" in stage.name, stage.name.rsplit("/", 1)[-1])
        if stage.kind not in ("pretrain", "finetune", "evaluate") or not stage.baseline:
            continue
        if template in seen and stage.kind != "pretrain":
            continue
        seen.add(template)
        found, asked = configs(small, stage.name, root), configs(official, stage.name, root)
        assert (stage.gpus, stage.nodes) == (1, 1)
        assert small.stage(stage.name).after == official.stage(stage.name).after
        if stage.kind == "pretrain":
            assert {key: value for key, value in found["epic"].items() if key != "generator"} == {
                key: value for key, value in asked["epic"].items() if key != "generator"
            }, stage.name
            assert found["teacher_path"] == asked["teacher_path"].replace(
                official.stage("xvlm/4m/vanilla/pretrain").checkpoint, "model_state_epoch_0.th"
            ).replace("checkpoint_29.pth", "checkpoint_00.pth")
        if stage.baseline not in WITH_LISTS:
            assert (found["datasets"], found["eval_split"]) == (asked["datasets"], asked["eval_split"]), stage.name
            assert found["loss_names"] == asked["loss_names"] and found["hidden_size"] == 128
        elif not stage.name.endswith("/vqa"):
            assert basenames(found) == basenames(asked), stage.name
    assert len(seen) > 30


def basenames(config: dict[str, Any]) -> dict[str, list[str]]:
    named = {key: config[key] for key in ("train_file", "val_file", "test_file", "train_file_regions") if key in config}
    return {
        key: [Path(each).name for each in (value if isinstance(value, list) else [value])]
        for key, value in named.items()
    }


def test_an_epoch_of_xvlm_has_the_rows_of_all_its_files(small: Experiments, root: Path) -> None:
    assert configs(small, "xvlm/4m/vanilla/pretrain", root)["train_dataset_size"] == 4 * 40
    assert configs(small, "xvlm/16m/vanilla/pretrain", root)["train_dataset_size"] == 5 * 40


def test_answers_are_scored_where_the_evaluation_server_would(small: Experiments) -> None:
    for model, answered in (("meter/4m/epic", "vqa_eval"), ("xvlm/4m/epic", "vqa")):
        stage = small.stage(f"{model}/answers")
        assert stage.after == (f"{model}/{answered}",) and not stage.baseline
    assert small.row("table3/meter-4m-epic").stages[-1] == "meter/4m/epic/answers"
    assert "meter/4m/epic/answers" not in small.row("table1/meter-4m-epic").stages


def test_checks_read_the_converted_scenes(small: Experiments, root: Path) -> None:
    for name, stage in small.stages.items():
        if stage.kind == "check":
            words = small.resolved(stage, Places(Path("/data"), root))
            assert not any("/data/" in word and str(root) not in word for word in words), name
            assert str(root) in " ".join(words)
