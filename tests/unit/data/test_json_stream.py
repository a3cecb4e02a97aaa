"""Long JSON lists are streamed: the values are those of the whole list, whatever the chunks."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.raw import write
from vlp.data import json_stream
from vlp.data.errors import DataError
from vlp.data.json_stream import iter_json_elements, iter_json_list

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(values=st.lists(JSON, max_size=8), chunk=st.integers(1, 9), indent=st.sampled_from([None, 1]))
def test_a_streamed_list_is_the_list(values: list[object], chunk: int, indent: int | None) -> None:
    text = json.dumps(values, indent=indent)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(json_stream, "_CHUNK", chunk)
        path = Path(folder, "list.json")
        path.write_text(text, encoding="utf-8")
        assert list(iter_json_list(path)) == values
        assert [json.loads(source) for _, source in iter_json_elements(path)] == values
        path.write_text(text[:-1], encoding="utf-8")
        with pytest.raises(DataError, match="the file ends there"):
            list(iter_json_list(path))


def test_a_list_is_expected(tmp_path: Path) -> None:
    write(tmp_path / "a.json", "{}")
    with pytest.raises(DataError, match="does not hold a JSON list"):
        list(iter_json_list(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not hold a JSON list"),
        ("[1, 2,, 3]", "row 2 is not valid JSON"),
        ("[1, 2,]", "row 2 is not valid JSON"),
        ("[1, {'a': 2}]", "row 1 is not valid JSON"),
        ("[1, 2 3]", "row 1 is not followed by"),
        ('[1, "ab]', "row 1 is not valid JSON"),
        ("[1, 2}", "row 1 is not followed by"),
        ("[1, 2] [3]", "text behind the end of the list of 2 rows"),
        ("[0, " + "[" * 100_000, "row 1 is nested too deep"),
    ],
)
def test_what_is_no_list_is_named_by_file_and_row(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(DataError, match=f"list.json.*{complaint}"):
        list(iter_json_list(path))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes('["caf\xe9"]'.encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.json is not UTF-8"):
        list(iter_json_list(tmp_path / "latin.json"))
    with pytest.raises(DataError, match="not found"):
        list(iter_json_list(tmp_path / "none.json"))
    with pytest.raises(DataError, match="not a regular file"):
        list(iter_json_list(tmp_path))
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert list(iter_json_list(tmp_path / "bom.json")) == [1]


def test_a_row_without_an_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", 16)
    path = tmp_path / "list.json"
    path.write_text('[1, "' + "x" * 5000)
    reads: list[int] = []
    with open(path) as handle:
        window = json_stream._Window(handle, path, longest=100)
        monkeypatch.setattr(window, "_handle", _Counting(handle, reads))
        with pytest.raises(DataError, match="row 1 is not valid JSON"):
            list(window.elements())
    assert sum(reads) < 500


class _Counting:
    def __init__(self, handle: TextIO, reads: list[int]) -> None:
        self.handle, self.reads = handle, reads

    def read(self, size: int) -> str:
        self.reads.append(size)
        return self.handle.read(size)
