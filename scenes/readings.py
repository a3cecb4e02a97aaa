"""Read truth records back: scenes, captions with what they claim, and what another word would state in its place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from scenes.layout_files import Record
from scenes.model import Box, Caption, Claim, Phrase, Relation, Scene, Slot, Span, Thing
from scenes.words import COLOURS, NOUNS, NUMBERS, PATTERNS, PLACES, RELATIONS, SIZES, TIME_WORDS, words_for

_VALUES: dict[str, Iterable[str | int]] = {
    **{"kind": NOUNS, "colour": COLOURS, "size": SIZES, "pattern": PATTERNS, "count": NUMBERS},
    **{"relation": RELATIONS, "ground": PLACES, "time": TIME_WORDS},
}
_OF_IMAGE = ("filepath", "filename", "split", "scene", "captions")


def read_truth(path: Path) -> list[Record]:
    """The records of a truth file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a line is no record of an image; names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: make the scenes first (python -m scenes)")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: no JSON ({error}): make the scenes again") from None
        lacking = [key for key in _OF_IMAGE if not isinstance(record, dict) or key not in record]
        if lacking:
            raise ValueError(f"{path}, line {number}: no truth of an image, it lacks {lacking[0]!r}")
        records.append(record)
    return records


def scene_of(record: Record) -> Scene:
    """The scene of a truth record."""
    scene = record["scene"]
    things = (Thing(**{**thing, "boxes": tuple(Box(*box) for box in thing["boxes"])}) for thing in scene["things"])
    return Scene(**{**scene, "things": tuple(things)})


def caption_of(record: Record) -> Caption:
    """A caption of a truth record, as the grammar made it.

    What is said of a thing stands before its noun, and a relation is that of the first thing to the second.

    Raises:
        ValueError: a span's word states nothing of its field.
    """
    text, phrases, relations, spans = record["raw"], list[Phrase](), list[Relation](), list[Span]()
    of_scene: dict[str, str] = {}
    of_thing: dict[str, str | int] = {"count": 1}
    for span in record["spans"]:
        field, start, end = span["field"], span["start"], span["end"]
        value = value_of(field, text[start:end])
        if value is None:
            raise ValueError(f"{text[start:end]!r} states no {field}, in the caption {text!r}")
        index = {"relation": len(relations), "ground": 0, "time": 0}.get(field, len(phrases))
        spans.append(Span(start, end, Slot(field, index, value), span["salient"]))
        if field == "relation":
            relations.append(Relation(str(value), 0, 1))
        elif field in ("ground", "time"):
            of_scene[field] = str(value)
        else:
            of_thing[field] = value
        if field == "kind":
            phrases.append(Phrase(**of_thing))  # type: ignore[arg-type]
            of_thing = {"count": 1}
    return Caption(text, Claim(tuple(phrases), tuple(relations), **of_scene), tuple(spans))


def value_of(field: str, word: str) -> str | int | None:
    """The value of a claim's ``field`` that a word states, singular or plural, in any case; None: it states none."""
    return _stated(field).get(word.lower())


@cache
def _stated(field: str) -> dict[str, str | int]:
    values = _VALUES[field]
    return {word: value for value in values for plural in (False, True) for word in words_for(field, value, plural)}
