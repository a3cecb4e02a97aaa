"""YAML files: plain values of YAML 1.2, and what is wrong with the file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vlp.config.schema import ConfigError
from vlp.yaml_dialect.yaml_file import key_lines, read_json, read_yaml, write_yaml

NAMES = st.text("abcdefghij_", min_size=1, max_size=8)
PLAIN: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "made.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_are_numbers_and_words_are_words(tmp_path: Path) -> None:
    text = "a: 1e-5\nb: 1.0E-6\nc: no\nd: False\ne: null\nf: ''\ng: [data/a.json, b]\nh: {x: 1}\ni: &same 3\nj: *same\n"
    assert read_yaml(written(tmp_path, text)) == {
        **{"a": 1e-5, "b": 1e-6, "c": "no", "d": False, "e": None, "f": "", "g": ["data/a.json", "b"]},
        **{"h": {"x": 1}, "i": 3, "j": 3},
    }


def test_the_line_of_a_key(tmp_path: Path) -> None:
    path = written(tmp_path, "# head\na: 1\nb:\n  c: 2\n\nd: 3\n")
    assert key_lines(path) == {"a": 2, "b": 3, "d": 6}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", r"made.yaml, line 3: duplicate key \"a\"; give it once"),
        ("a: !!python/object/apply:os.system ['true']\n", "made.yaml, line 1: a tag that is not read"),
        ("a: !mine 3\n", "made.yaml, line 1: a tag that is not read"),
        ("a: [1, 2\n", "made.yaml, line 2: expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", "made.yaml, line 2: "),
        ("- 1\n- 2\n", "made.yaml: expected keys with values"),
        ("", "made.yaml: expected keys with values"),
        ("a: 1\n---\nb: 2\n", "made.yaml, line 2: but found another document"),
        ("1: 2\n", "made.yaml: the key 1 is not text"),
        ("a: 2020-01-01\n", "made.yaml: date is not among text"),
        ("a: &a [*a]\n", "made.yaml: more values than a configuration has"),
        ("a: \x00\n", "made.yaml"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read_yaml(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_few_aliases_cannot_stand_for_billions_of_values(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ConfigError, match="more values than a configuration has"):
        read_yaml(written(tmp_path, "\n".join(lines)))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^\S+absent.yaml: no such file$"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="is a folder, not a file"):
        read_yaml(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        read_yaml(tmp_path / "bytes.yaml")
    written(tmp_path, "a: 1\n" + "#" * (1 << 20))
    with pytest.raises(ConfigError, match="more than 1,048,576 bytes"):
        read_yaml(tmp_path / "made.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "b": }', "made.json, line 2: not JSON"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ("[1]", "expected an object"),
        ("[" * 100_000, "made.json"),
    ],
)
def test_json_that_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_json(path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example({"a": "?0", "b": ["?"], "c": {"d": "? e"}})
@example({"a": "\x85", "b": ["\u2028x"], "c": {"d": " \u2029"}, "e": "\ufeff"})
@given(st.dictionaries(NAMES, PLAIN, min_size=1, max_size=5))
def test_what_is_written_is_read_again(tmp_path: Path, values: dict[str, Any]) -> None:
    write_yaml(tmp_path / "written.yaml", values)
    assert read_yaml(tmp_path / "written.yaml") == values
