"""A command line is checked before sacred runs it: unknown names, and values of the wrong type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sacred import Experiment

from vlp.sacred_dialect.command_line import CommandLineError, check_command_line

BASE: dict[str, Any] = {
    "image_size": 224,
    "learning_rate": 1e-5,
    "datasets": ["coco"],
    "tokenizer": "bert",
    "test_only": False,
    "precision": 32,
    "decay_power": 1,
    "resume_from": None,
    "max_steps": 100,
    "num_gpus": 8,
    "init": {"vision": "pretrained", "text": "pretrained"},
    "epic": {"mask_ratio": 0.35, "enabled": False},
    "loss_names": {"itm": 1, "mlm": 1},
}


@pytest.fixture
def experiment() -> Experiment:
    experiment = Experiment("test", save_git_info=False)
    experiment.add_config(BASE)
    experiment.add_named_config("clip16", {"image_size": 288})
    experiment.main(lambda: None)
    return experiment


@pytest.mark.parametrize(
    "line",
    [
        "",
        "with clip16 image_size=96 epic.mask_ratio=0.5 init=random",
        "with init.vision=ViT-B-16.pt datasets=['coco','vg']",
        "with loss_names.mlm=0",
        "with loss_names={'itm':0,'mlm':1}",
        "with clip16 -F runs --loglevel=DEBUG",
        "with image_size=96 -l DEBUG",
        "print_config with clip16",
        "help",
    ],
)
def test_good_lines_pass(line: str, experiment: Experiment) -> None:
    check_command_line(experiment, ["run.py", *line.split()])


@pytest.mark.parametrize(
    ("line", "messages"),
    [
        ("with imge_size=64", ["unknown config key 'imge_size'; did you mean 'image_size'?"]),
        ("with epic.mask_ration=0.5", ["unknown config key 'epic.mask_ration'; did you mean 'epic.mask_ratio'?"]),
        (
            "with loss_names={'mlm':1}",
            ["loss_names={'mlm': 1} lacks itm, which would stay as they are: write every task, or loss_names.itm=0"],
        ),
        ("with clip61", ["unknown named config 'clip61'; did you mean 'clip16'?"]),
        (
            "print_config with clip61 lerning_rate=1 init.visoin=x -l DEBUG",
            ["'clip61'", "'lerning_rate'; did you mean 'learning_rate'?", "'init.visoin'; did you mean 'init.vision'?"],
        ),
    ],
)
def test_every_unknown_name_is_told_with_the_nearest(
    line: str, messages: list[str], experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandLineError) as stopped:
        check_command_line(experiment, ["run.py", *line.split()])
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and printed.strip() == stopped.value.message
    assert len(printed.splitlines()) == len(messages)
    assert all(message in printed for message in messages)


def test_a_config_file_is_a_named_config(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"image_size": 96}')
    check_command_line(experiment, ["run.py", "with", str(tmp_path / "mine.json")])
    (tmp_path / "mine.yaml").write_text("image_size: 96\nepic:\n  mask_ratio: 0.5\n")
    check_command_line(experiment, ["run.py", "with", str(tmp_path / "mine.yaml")])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"image_size: !!python/object/apply:os.system ['touch ran']", "could not determine a constructor"),
        ("a.yml", b"!!python/object/new:os.system ['touch ran']", "could not determine a constructor"),
        (
            "a.json",
            b'{"image_size": {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["touch ran"]}]}}',
            "py/",
        ),
        ("a.pickle", b"cposix\nsystem\n(S'touch ran'\ntR.", "only .yaml, .yml and .json are read"),
        ("a.json", b'{"image_size": ', "Expecting value"),
        ("a.yaml", b"- 1", "expected keys with values"),
        ("a.yaml", b"loss_names:\n  mlm: 1", "loss_names={'mlm': 1} lacks itm"),
        (
            "a.yaml",
            b"epic:\n  mask_ration: 1",
            "unknown config key 'epic.mask_ration'; did you mean 'epic.mask_ratio'?",
        ),
    ],
)
def test_a_config_file_holds_plain_values_of_known_keys(
    name: str,
    content: bytes,
    message: str,
    experiment: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    with pytest.raises(CommandLineError) as stopped:
        check_command_line(experiment, ["run.py", "with", name])
    assert stopped.value.message.startswith(f"config file {name}: ") and message in stopped.value.message
    assert len(stopped.value.message.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]
