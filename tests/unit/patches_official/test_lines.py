"""Inserting lines and taking them out again, in any file and with any changes around them."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.official.lines import Insertion, blob, inserted, odd_line_ends, places, split, without

OURS = ("import epic_x", "    epic_x.keys(locals())", "")
TEXTS = st.lists(st.sampled_from(["", "a = 1", "    b = 2", "é"]), max_size=8)


@st.composite
def cases(draw: st.DrawFn) -> tuple[bytes, list[Insertion]]:
    """A file, its last line with or without end, and insertions in it."""
    data = "\n".join(draw(TEXTS)).encode() + draw(st.sampled_from([b"", b"\n"]))
    after = sorted(draw(st.sets(st.integers(0, len(split(data)[0])), max_size=4)))
    return data, [
        Insertion(line, (*draw(st.lists(st.sampled_from(OURS), max_size=3)), f"epic_x.call({line})")) for line in after
    ]


@settings(deadline=None, max_examples=25)
@given(cases())
def test_what_was_inserted_comes_out_to_the_byte(case: tuple[bytes, list[Insertion]]) -> None:
    data, insertions = case
    patched = inserted(data, insertions)
    assert without(patched, insertions) == data
    assert places(patched, insertions) == tuple(insertions)
    assert split(patched)[1] == split(data)[1] or not data


def test_a_doubled_or_missing_line_is_not_taken_for_ours() -> None:
    insertions = [Insertion(1, ("import epic_x",)), Insertion(2, ("epic_x.go()",))]
    patched = inserted(b"a\nb\n", insertions)
    assert without(patched + b"import epic_x\n", insertions) is None
    assert without(patched.replace(b"epic_x.go()", b"epic_x.go(1)"), insertions) is None
    assert without(b"epic_x.go()\nimport epic_x\n", insertions) is None, "another order"


def test_equal_insertions_are_told_apart_by_their_order() -> None:
    insertions = [Insertion(1, ("epic_x.go()",)), Insertion(2, ("epic_x.go()",))]
    patched = inserted(b"a\nb\nc\n", insertions)
    assert patched == b"a\nepic_x.go()\nb\nepic_x.go()\nc\n"
    assert without(patched, insertions) == b"a\nb\nc\n"


def test_places_beyond_the_file_or_out_of_order_raise() -> None:
    with pytest.raises(ValueError, match="no line 3"):
        inserted(b"a\nb\n", [Insertion(3, ("x",))])
    with pytest.raises(ValueError, match="no line 1 after line 2"):
        inserted(b"a\nb\n", [Insertion(2, ("x",)), Insertion(1, ("y",))])


@pytest.mark.parametrize("data", [b"", b"a\n", "é\n".encode() * 7])
def test_a_blob_is_what_git_calls_it(data: bytes) -> None:
    run = subprocess.run(["git", "hash-object", "--stdin", "--no-filters"], input=data, capture_output=True, check=True)
    assert blob(data) == run.stdout.decode().strip()


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"a\nb", ""), (b"a\r\nb\r\n", "Windows"), (b"a\r\nb\n", "mixed"), (b"a\rb\n", "carriage"), (b"a\r\r\n", "carri")],
)
def test_line_ends(data: bytes, what: str) -> None:
    assert what in odd_line_ends(data) and bool(what) == bool(odd_line_ends(data))
