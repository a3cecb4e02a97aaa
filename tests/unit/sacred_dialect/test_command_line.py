"""A command line is checked before sacred runs it: unknown names, and values of the wrong type."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import pytest
from sacred import Experiment

from vlp.config.kinds import Amount, Count, Name, Positive, Share
from vlp.config.schema import Schema, defaults, key
from vlp.sacred_dialect.command_line import CommandLineError, check_command_line


class Tower(Schema):
    vision: Name = key("pretrained", "")
    text: Name = key("pretrained", "")


class Method(Schema):
    mask_ratio: Share = key(0.35, "")
    enabled: bool = key(False, "")


class Keys(Schema):
    image_size: Positive = key(224, "")
    learning_rate: Amount = key(1e-5, "")
    datasets: list[str] = key(["coco"], "")
    seed: Count = key(0, "")
    init: Tower | Literal["random"] = key(Tower(), "")
    epic: Method = key(Method(), "")
    loss_names: dict[str, Amount] = key({"itm": 1, "mlm": 1}, "")


def bomb(names: str) -> str:
    """Each key a list of nine times the one before."""
    pairs = itertools.pairwise(names)
    return "".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairs)


@pytest.fixture
def experiment() -> Experiment:
    experiment = Experiment("test", save_git_info=False)
    experiment.add_config(defaults(Keys))
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
    check_command_line(experiment, Keys, ["run.py", *line.split()])


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
        check_command_line(experiment, Keys, ["run.py", *line.split()])
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and printed.strip() == stopped.value.message
    assert len(printed.splitlines()) == len(messages)
    assert all(message in printed for message in messages)


def test_a_config_file_is_a_named_config(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"image_size": 96}')
    check_command_line(experiment, Keys, ["run.py", "with", str(tmp_path / "mine.json")])
    (tmp_path / "mine.yaml").write_text("image_size: 96\nepic:\n  mask_ratio: 0.5\n")
    check_command_line(experiment, Keys, ["run.py", "with", str(tmp_path / "mine.yaml")])


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
        check_command_line(experiment, Keys, ["run.py", "with", name])
    assert stopped.value.message.startswith(f"config file {name}: ") and message in stopped.value.message
    assert len(stopped.value.message.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("seed=abc", "error: seed='abc': expected a whole number, at least 0"),
        ("seed=-1 image_size=0", "error: seed=-1: expected a whole number, at least 0"),
        ("epic=1", "error: epic=1: expected the keys mask_ratio, enabled"),
        ("epic=1 epic.mask_ratio=0.5", "error: epic=1: expected the keys mask_ratio, enabled"),
        (
            "init=random init.vision=x",
            "error: init= and init.vision=: give a key as a whole or by its own keys, not both",
        ),
    ],
)
def test_what_sacred_would_stumble_over_is_said_before(items: str, message: str, experiment: Experiment) -> None:
    with pytest.raises(SystemExit) as stopped:
        check_command_line(experiment, Keys, ["run.py", "with", *items.split()])
    assert stopped.value.code == message


def test_a_value_in_a_config_file_is_looked_at_as_well(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: abc\n")
    with pytest.raises(SystemExit) as stopped:
        check_command_line(experiment, Keys, ["run.py", "with", str(tmp_path / "mine.yaml")])
    assert stopped.value.code == "error: seed='abc': expected a whole number, at least 0"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: &a [1,1,1,1,1,1,1,1,1]\n" + bomb("abcdefgh"), "holds more than 10,000 values, or itself"),
        ("a.yaml", "a: &a\n  b: *a\n", "holds more than 10,000 values, or itself"),
        ("a.json", '{"a": ' + "[" * 200_000, "is nested too deep"),
        ("a.yaml", "1: 2\n", "expected keys with values"),
        ("a.json", " " * (2 << 20), "has more than 1,048,576 bytes"),
    ],
)
def test_a_config_file_that_would_take_all_memory(
    name: str, text: str, message: str, experiment: Experiment, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CommandLineError) as stopped:
        check_command_line(experiment, Keys, ["run.py", "with", str(tmp_path / name)])
    assert stopped.value.message == f"config file {tmp_path / name}: {message}"
