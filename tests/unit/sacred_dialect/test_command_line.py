"""A command line is checked before sacred runs it: unknown names, and values of the wrong type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sacred import Experiment

from vlp.sacred_dialect.command_line import CommandLineError, check_command_line, check_types

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


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 288},
        {"learning_rate": 1},
        {"max_steps": None},
        {"num_gpus": [0, 1]},
        {"precision": "bf16"},
        {"decay_power": "cosine"},
        {"resume_from": "last.ckpt"},
        {"datasets": ("coco",)},
        {"init": "random"},
        {"test_only": 1},
        {"epic": {"mask_ratio": 0.5, "enabled": True}},
    ],
)
def test_values_of_fitting_types(changes: dict[str, Any]) -> None:
    check_types({**BASE, **changes}, BASE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": "abc"}, "image_size='abc': expected a number, like 224"),
        ({"image_size": None}, "image_size=None: expected a number"),
        ({"image_size": [224]}, r"image_size=\[224\]: expected a number"),
        ({"image_size": True}, "image_size=True: expected a number"),
        ({"learning_rate": "1e-5x"}, "learning_rate='1e-5x': expected a number"),
        ({"datasets": "coco"}, r"datasets='coco': expected a list, like \['coco'\]"),
        ({"tokenizer": 3}, "tokenizer=3: expected text"),
        ({"test_only": "yes"}, "test_only='yes': expected True or False"),
        ({"epic": {"enabled": "False"}}, r"epic\.enabled='False': expected True or False"),
    ],
)
def test_values_of_other_types_are_refused_by_their_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_types({**BASE, **changes}, BASE)
