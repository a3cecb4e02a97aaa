"""Truth records are read back as what they were written from, and other words state what the oracle reads in them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pytest

from scenes.grammar import Grammar
from scenes.model import Caption, Scene
from scenes.readings import caption_of, read_truth, scene_of, value_of
from scenes.sampling import sample_splits
from scenes.statistics import Statistics
from scenes.truths import truth_record
from scenes.words import COLOURS, NOUNS, NUMBERS, PATTERNS, PLACES, RELATIONS, SIZES, TIME_WORDS, words_for
from tests.unit.scenes import oracle

VALUES: dict[str, Iterable[str | int]] = {
    **{"kind": NOUNS, "colour": COLOURS, "size": SIZES, "pattern": PATTERNS, "count": NUMBERS},
    **{"relation": RELATIONS, "ground": PLACES, "time": TIME_WORDS},
}


@pytest.fixture(scope="module")
def made() -> list[tuple[Scene, list[Caption]]]:
    scenes = sample_splits({"train": 80, "val": 0, "test": 0}, seed=4)["train"]
    grammar, rng = Grammar(Statistics()), random.Random(5)
    return [(scene, grammar.captions(scene, rng, 2)) for scene in scenes]


def test_records_are_read_back(made: list[tuple[Scene, list[Caption]]]) -> None:
    fields, rng = set(), random.Random(6)
    for scene, captions in made:
        record = json.loads(json.dumps(truth_record(scene, dict(enumerate(captions)), Statistics(), rng)))
        assert scene_of(record) == scene
        assert [caption_of(each) for each in record["captions"]] == captions
        fields |= {span.slot.field for caption in captions for span in caption.spans}
    assert fields == set(VALUES)


def test_another_word_states_what_the_oracle_reads(made: list[tuple[Scene, list[Caption]]]) -> None:
    verdicts = {True: 0, False: 0}
    for scene, captions in made:
        as_read = json.loads(json.dumps(asdict(scene)))
        for caption in captions:
            # What the oracle knows of a third thing overhead is not claimed; nor is "on" read in "to the on of".
            spans = [s for s in caption.spans if len(caption.claim.phrases) < 3 and s.slot.value != "on"]
            for span in spans:
                for value in VALUES[span.slot.field]:
                    word = words_for(span.slot.field, value)[-1]
                    if word == "on":
                        continue
                    assert value_of(span.slot.field, word.capitalize()) == value
                    holds = caption.claim.with_value(span.slot, value).holds(scene)
                    text = caption.text[: span.start] + word + caption.text[span.end :]
                    assert holds == oracle.true_of(text, as_read), (text, as_read)
                    verdicts[holds] += 1
    assert min(verdicts.values()) > 100


def test_a_word_states_values_of_its_own_field_alone() -> None:
    assert (value_of("kind", "Buses"), value_of("kind", "mugs"), value_of("count", "three")) == ("bus", "cup", 3)
    assert value_of("ground", "lawn") == "grass" and value_of("relation", "beneath") == "below"
    for field, word in (("kind", "red"), ("colour", "ball"), ("kind", "dog"), ("size", "medium"), ("count", "a")):
        assert value_of(field, word) is None


def test_a_file_that_is_no_truth_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    with pytest.raises(FileNotFoundError, match="is missing: make the scenes first"):
        read_truth(path)
    path.write_text('{"filepath": "a", "filename": "b", "split": "val", "scene": {}, "captions": []}\n{"a')
    with pytest.raises(ValueError, match=r"truth.jsonl, line 2: no JSON"):
        read_truth(path)
    path.write_text('{"filepath": "a", "filename": "b", "split": "val", "captions": []}')
    with pytest.raises(ValueError, match=r"line 1: no truth of an image, it lacks 'scene'"):
        read_truth(path)
    with pytest.raises(ValueError, match=r"'dog' states no kind, in the caption 'A dog.'"):
        caption_of({"raw": "A dog.", "spans": [{"start": 2, "end": 5, "field": "kind", "salient": True}]})
