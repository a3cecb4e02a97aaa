"""README's commands parse, also as trials, and what one of them leaves is what the next one asks for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from albef.config import COMMANDS
from tests.readme import ROOT, TITLES, as_trial, commands, language_model, launchers, trial, words
from vlp.baseline import get_baseline
from vlp.config.trial import TRIAL
from vlp.data.arrow.convert import CONVERTERS
from vlp.data.jsonl.plans import PLANS as LINES
from vlp.sacred_dialect.command_line import configured
from vlp.sacred_dialect.settings import run_name
from vlp.yaml_dialect.command_line import configured as configured_by_yaml
from xvlm import run as tasks_of_xvlm
from xvlm.config import COMMANDS as COMMANDS_OF_XVLM

SACRED, YAML = ("meter", "vilt"), ("albef", "xvlm")
# Data set -> the lists of a run that its converter writes.
LISTS = {
    **{name: [f"{name}.json"] for name in ("coco", "vg", "sbu")},
    "gcc": ["cc3m_train.json", "cc3m_val.json"],
    "f30k": [f"flickr30k_{split}.json" for split in ("train", "val", "test")],
}


def config_of(baseline: str, command: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration of a launcher's command."""
    given = words(command)
    given = given[next(i for i, word in enumerate(given) if word.endswith(".py")) :]
    if baseline in SACRED:
        about = get_baseline(baseline)
        return configured(about.experiment, about.schema, given[2:])
    monkeypatch.chdir(ROOT / baseline)
    if baseline == "albef":
        return configured_by_yaml(COMMANDS[Path(given[0]).stem], given[1:])
    args = tasks_of_xvlm.arguments(given[1:])
    task = tasks_of_xvlm.task_of(args.task)
    assert task is not None
    (script,) = task.commands(args, task)
    return configured_by_yaml(COMMANDS_OF_XVLM[Path(script[0]).stem], [*script[1:], *args.items])


def left_by(baseline: str, config: dict[str, Any]) -> str:
    """The checkpoint that a run of pre-training ends with."""
    if baseline in SACRED:
        return f"{config['log_dir']}/{run_name(config)}/version_0/checkpoints/last.ckpt"
    epoch = config["schedular"]["epochs"] - 1
    name = f"checkpoint_{epoch:02d}.pth" if baseline == "albef" else f"model_state_epoch_{epoch}.th"
    return f"{config['output_dir']}/{name}"


@pytest.mark.parametrize("small", [False, True], ids=["official", "trial"])
@pytest.mark.parametrize("baseline", TITLES)
def test_a_command_reads_what_the_one_before_leaves(
    baseline: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [as_trial(each, trial(baseline)) if small else each for each in launchers(baseline)]
    vanilla, epic, scored = (config_of(baseline, each, monkeypatch) for each in lines)
    assert not vanilla["epic"]["enabled"] and epic["epic"]["enabled"]
    assert epic["teacher_path"] == left_by(baseline, vanilla) != left_by(baseline, epic)
    assert scored["load_path" if baseline in SACRED else "checkpoint"] == left_by(baseline, epic)
    assert scored["test_only" if baseline in SACRED else "evaluate"]
    for config in (vanilla, epic):
        assert (config["max_steps"] == TRIAL["max_steps"]) == small
        text = config["tokenizer" if baseline in SACRED else "text_encoder"]
        assert (text == "LM") == small


@pytest.mark.parametrize("baseline", TITLES)
def test_the_trial_keeps_the_data_of_the_command(baseline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in launchers(baseline):
        config, made_small = (
            config_of(baseline, each, monkeypatch) for each in (command, as_trial(command, trial(baseline)))
        )
        named = ("data_root", "datasets", "train_file", "train_file_regions", "val_file", "test_file", "image_root")
        assert [config.get(name) for name in named] == [made_small.get(name) for name in named]
        assert config.get("train_dataset_size") == made_small.get("train_dataset_size")


@pytest.mark.parametrize("baseline", YAML)
def test_the_lists_of_the_commands_are_made_by_those_of_the_data(
    baseline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {f"{folder}/{name}" for folder, name in outputs(baseline)}
    for command in launchers(baseline):
        config = config_of(baseline, command, monkeypatch)
        files = [
            config["train_file"],
            config.get("train_file_regions"),
            config.get("val_file"),
            config.get("test_file"),
        ]
        for name in (each for value in files if value for each in ([value] if isinstance(value, str) else value)):
            assert f"{baseline}/{name}" in made, name
        lists = not any("pretrain_4m" in each for each in config["train_file"])
        assert config["image_root"] == ("RAW" if lists else "")


def outputs(baseline: str) -> list[tuple[str, str]]:
    """The folders and files that the converters of README's data section write."""
    found = []
    for command in commands("Data", baseline):
        loop = re.match(r"for set in (.*?); do\s+(.*?);?\s+done", command, re.DOTALL)
        names, line = (loop[1].split(), loop[2]) if loop else ([""], command)
        for name in names:
            given = words(line.replace("$set", name).replace("${set%%_*}", name.split("_")[0]))
            if given[3] == "convert":
                output = given[given.index("--output") + 1]
                if given[2].endswith("jsonl"):
                    assert given[4] in LINES and "--binary" in given
                    found.append((output, given[4]))
                else:
                    assert given[given.index("--image-root") + 1] == "RAW"
                    found += [(output, each) for each in LISTS[given[4]]]
    return found


@pytest.mark.parametrize("baseline", SACRED)
def test_the_tables_of_the_commands_are_made_by_those_of_the_data(
    baseline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = re.match(r"for set in (.*?); do", commands("Data", baseline)[0])
    assert loop is not None and {*loop[1].split()} <= {*CONVERTERS}
    for command in launchers(baseline):
        assert {*config_of(baseline, command, monkeypatch)["datasets"]} <= {*loop[1].split()}


def test_the_language_model_of_the_trial_has_the_tokenizer_of_its_baseline() -> None:
    for baseline in TITLES:
        captions, fitted = map(words, language_model(baseline))
        assert fitted[fitted.index("--family") + 1] == get_baseline(baseline).text_family
        assert captions[captions.index("--output") + 1] == fitted[fitted.index("--captions") + 1]
