"""Any text for any key, through the real command line up to where a run begins: told by the key, or a config that fits.

What a value may be is taken from the tables of ``tests/unit/sacred_dialect/test_config.py``, not from the schema.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.sacred_dialect.test_config import OFTEN, OWN
from vlp.baseline import get_baseline
from vlp.sacred_dialect.baseline import SacredBaseline
from vlp.sacred_dialect.command_line import CommandLineError, launch
from vlp.sacred_dialect.config import base_config
from vlp.sacred_dialect.keys import SacredKeys

NUMBERS = ["0", "1", "-1", "2", "16", "32", "0.5", "-0.5", "1.0", "1e400", "-1e400", "1e-400", "nan", "inf", "0x10"]
NUMBERS += ["1_000", "10" * 40, "9" * 5000, "1j", "٣", "1,2", "1e3", "2**3", "--1"]
WORDS = ["", " ", "None", "none", "True", "true", "auto", "bf16", "coco", "random", "pretrained", "cosine", "/dev/null"]
WORDS += [
    "..",
    "~",
    "a" * 5000,
    "\ud800",
    "\x1b[31m",
    "日本",
    "\n",
    "'",
    '"',
    "\\",
    "${HOME}",
    "=",
    "=1",
    "{",
    "[",
    "(",
]
LISTS = ["[]", "()", "{}", "[[]]", "[0]", "[-1]", "[0, 0]", "[None]", "['coco']", "['coco', 'coco']", "['clip']"]
LISTS += ["{'a': 1}", "{1: 2}", "{[]: 1}", "{'coco'}", "b'x'", "...", "[" * 50 + "]" * 50, "[" * 2000, "lambda: 0"]
LISTS += ["{'py/object': 'os.system'}", "{'itm': 1}", "{'vision': 'random'}", "{'enabled': True}", "__import__('os')"]
VALUES = (
    st.sampled_from([*NUMBERS, *WORDS, *LISTS]) | st.text(max_size=8) | st.integers().map(str) | st.floats().map(str)
)


def keys(name: str) -> Iterator[str]:
    """All keys of a baseline, those in blocks dotted."""
    for key, value in base_config(launcher(name).experiment).items():
        yield key
        yield from (f"{key}.{inner}" for inner in value) if isinstance(value, dict) else ()


def launcher(name: str) -> SacredBaseline:
    baseline = get_baseline(name)
    assert isinstance(baseline, SacredBaseline)
    return baseline


SHARED = {name for name in SacredKeys.model_fields if name not in OWN["vilt"]}  # one schema: once is enough
CASES = [
    *(("meter", key) for key in keys("meter")),
    *(("vilt", key) for key in keys("vilt") if key not in SHARED and not key.startswith("epic.")),
]


@settings(max_examples=3, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
@pytest.mark.parametrize(("name", "key"), CASES, ids=".".join)
def test_any_text_for_any_key(
    name: str, key: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    baseline, begun = launcher(name), list[dict[str, Any]]()
    items = [baseline.pretraining[0], f"data_root={tmp_path}", "per_gpu_batchsize=8", f"{key}={value}"]
    monkeypatch.setattr(sys, "argv", ["run.py", "with", *items])
    try:
        launch(baseline.experiment, baseline.schema, begun.append)
        said = ""
    except CommandLineError as end:
        said = end.message
        assert end.code == 2
    except SystemExit as end:
        said = str(end.code)
        assert said.startswith("error: ")
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert not list(tmp_path.iterdir())
    if said:
        assert not begun and key.split(".")[0] in said, said
        return
    (config,) = begun
    top = key.split(".")[0]
    allows = {**OFTEN, **OWN[name]}.get(top)
    assert allows is None or allows(plain(config[top])), config[top]


def plain(value: Any) -> Any:
    """Sacred's subclass of list as a list."""
    return list(value) if isinstance(value, list | tuple) else value
