"""Any value for any key of a YAML file: told by the key, or a configuration that fits. No traceback for any."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from albef.config import COMMANDS as ALBEF
from vlp.config.schema import ConfigError, check, defaults
from vlp.yaml_dialect.command_line import resolved
from vlp.yaml_dialect.yaml_file import read_yaml, write_yaml
from xvlm.config import COMMANDS as XVLM

COMMANDS = {f"{folder}/{n}": each for folder, every in (("albef", ALBEF), ("xvlm", XVLM)) for n, each in every.items()}
# Keys of files that must be there.
LISTS = (
    *("train_file", "val_file", "test_file", "answer_list", "det_file", "train_file_regions"),
    *("val_gt_file", "test_gt_file"),
)
FOLDERS = ("refcoco_data", "image_root", "vqa_root", "vg_root")
DECIDED = ("bert_config", "text_config", "precision")  # also by a file, or by other keys
NAMES = st.text("abcdefghij_", min_size=1, max_size=8) | st.sampled_from(["lr", "epochs", "enabled", "vision", ""])
ODD: list[Any] = [
    0,
    1,
    -1,
    2,
    2**31,
    -(2**63),
    10**40,
    0.5,
    1e300,
    1e-300,
    math.inf,
    -math.inf,
    math.nan,
    True,
    False,
    None,
    "",
]
ODD += ["bf16", "16", "auto", "pretrained", "random", "cosine", "adamW", "gelu", "itm", "None", "..", "~", "/dev/null"]
ODD += ["a" * 5000, "\x1b[31m", "日本", "\n", "\x00", "\ud800", "${HOME}", "1e-5", "a,b", [], {}, [[]], [0], [None]]
ODD += [["a.json"], ["a.json", 3], {"lr": 1}, {"epochs": 0}, {"enabled": True}, {"vision": "x"}, {"a": {"b": {}}}]
VALUES: Any = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def keys() -> Iterator[tuple[str, str]]:
    """A script and a key of it, those in blocks dotted; each key once, by the first script that has it.

    X-VLM's keys of ALBEF's names are read by the same code.
    """
    seen = set()
    for script, command in COMMANDS.items():
        for key, value in defaults(command.schema).items():
            for name in (key, *(f"{key}.{inner}" for inner in value)) if isinstance(value, dict) else (key,):
                if name not in seen:
                    seen.add(name)
                    yield script, name


def nested(name: str, value: Any) -> dict[str, Any]:
    block, _, inner = name.rpartition(".")
    return {block: {inner: value}} if block else {inner: value}


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
@pytest.mark.parametrize(("script", "key"), list(keys()), ids=lambda value: value)
def test_any_value_for_any_key(
    script: str,
    key: str,
    value: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = COMMANDS[script]
    places = {**dict.fromkeys(LISTS, "pairs.json"), **dict.fromkeys(FOLDERS, ".")}
    given = {name: path for name, path in places.items() if name in command.schema.model_fields}
    (tmp_path / "pairs.json").write_text("[]")
    try:
        write_yaml(tmp_path / "made.yaml", {**given, **nested(key, value)})
    except UnicodeEncodeError:
        return  # half of a character, which no file holds
    before = sorted(tmp_path.iterdir())
    try:
        config = resolved(command, ["--config", "made.yaml"])
    except ConfigError as error:
        said, lines = str(error), str(error).splitlines()
        assert key.split(".")[0] in said, said
        assert len(lines) < 20 and all(len(line) < 1000 for line in lines), said
        return
    finally:
        printed = capsys.readouterr()
        assert not printed.out + printed.err and sorted(tmp_path.iterdir()) == before
    check(command.schema, config)
    asked, top = nested(key, value), key.split(".")[0]
    assert top in DECIDED or same(config[top], merged_value(command, top, read_yaml("made.yaml")[top])), asked


def merged_value(command: Any, top: str, value: Any) -> Any:
    """What a file's value makes of a key: a block keeps the keys that are not given."""
    default = defaults(command.schema)[top]
    return {**default, **value} if isinstance(default, dict) and isinstance(value, dict) else value


def same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and first == second
