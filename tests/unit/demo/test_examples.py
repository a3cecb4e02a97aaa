"""Which words only the image tells, where a model reads a caption in another spelling."""

from __future__ import annotations

from demo.baselines import BASELINES
from demo.examples import moved_marks


def marked(text: str, marks: list[bool]) -> str:
    """The letters of ``text`` that are marked, the others as dots."""
    assert len(text) == len(marks)
    return "".join(c if mark else "." for c, mark in zip(text, marks, strict=True))


def test_marks_of_a_caption_that_stays_as_it_is() -> None:
    assert marked("a red cup", moved_marks("a red cup", [[2, 5]], "a red cup")) == "..red...."


def test_marks_move_with_their_letters() -> None:
    """Punctuation is dropped, letters are lowered, and the end is cut off."""
    raw = "On top, two dark-red mugs; here."
    spans = [[raw.index("two"), raw.index("two") + 3], [raw.index("dark"), raw.index(" mugs")]]
    text = BASELINES["albef"].cleaned(raw)
    assert text == "on top two dark red mugs here"
    assert marked(text, moved_marks(raw, spans, text)) == ".......two.dark.red.........."
    assert marked("on top two dar", moved_marks(raw, spans, "on top two dar")) == ".......two.dar"
