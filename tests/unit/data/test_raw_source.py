"""Long JSON lists are streamed: the values are those of the whole list, whatever the chunks."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.raw import write
from vlp.data.errors import DataError
from vlp.data.raw import source

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
        patch.setattr(source, "_CHUNK", chunk)
        path = Path(folder, "list.json")
        path.write_text(text, encoding="utf-8")
        assert list(source.iter_json_list(path)) == values
        path.write_text(text[:-1], encoding="utf-8")
        with pytest.raises(DataError, match="cut off"):
            list(source.iter_json_list(path))


def test_a_list_is_expected(tmp_path: Path) -> None:
    write(tmp_path / "a.json", "{}")
    with pytest.raises(DataError, match="does not hold a JSON list"):
        list(source.iter_json_list(tmp_path / "a.json"))
