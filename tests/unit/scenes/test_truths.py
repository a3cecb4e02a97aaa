"""Everything that is said about a scene is checked by the oracle, from the words and the boxes alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from scenes.entailments import UNKNOWABLE
from scenes.model import Box, related
from tests.unit.scenes import oracle

Records = list[dict[str, Any]]


def test_captions_are_true_different_and_carry_their_words(records: Records) -> None:
    for record in records:
        first, second = record["captions"]
        assert first["raw"] != second["raw"]
        for caption in (first, second):
            assert oracle.true_of(caption["raw"], record["scene"]), (caption["raw"], record["scene"])
            for span in caption["spans"]:
                assert caption["raw"][span["start"] : span["end"]].isalpha()
            flagged = [[span["start"], span["end"]] for span in caption["spans"] if span["salient"]]
            assert caption["salient"] == flagged


def test_every_salient_word_has_a_foil_that_changes_it_alone_and_is_false(records: Records) -> None:
    fields = Counter[str]()
    for record in records:
        for caption in record["captions"]:
            raw = caption["raw"]
            assert len(caption["foils"]) == len(caption["salient"])
            salient = [span for span in caption["spans"] if span["salient"]]
            for foil, span in zip(caption["foils"], salient, strict=True):
                assert raw[span["start"] : span["end"]] == foil["original"] != foil["replacement"]
                assert foil["text"] == raw[: span["start"]] + foil["replacement"] + raw[span["end"] :]
                assert foil["text"][foil["start"] : foil["end"]] == foil["replacement"]
                assert foil["original"][0].isupper() == foil["replacement"][0].isupper()
                assert not oracle.true_of(foil["text"], record["scene"]), (foil["text"], record["scene"])
                fields[span["field"]] += 1
    assert set(fields) == {"kind", "colour", "size", "pattern", "count", "relation", "ground", "time"}


def test_questions_are_answered_right_by_ten_annotators(records: Records) -> None:
    types = Counter[str]()
    for record in records:
        questions = record["questions"]
        assert len({question["question"] for question in questions}) == len(questions)
        for question in questions:
            assert oracle.answer(question["question"], record["scene"]) == question["answer"], (question, record)
            assert len(question["answers"]) == 10
            assert Counter(question["answers"]).most_common(1)[0][0] == question["answer"]
            types[question["answer_type"]] += 1
            types[question["answer"]] += 1
    assert {"yes/no", "number", "other", "yes", "no"} <= set(types)
    assert 0.25 < types["yes"] / types["yes/no"] < 0.75


def test_statements_come_with_both_labels_and_are_labelled_right(records: Records) -> None:
    for i, record in enumerate(records):
        other = records[(i + 1) % len(records)]["scene"]
        assert sorted(statement["label"] for statement in record["statements"]) == [False, True]
        for statement in record["statements"]:
            judged = oracle.statement_holds(statement["sentence"], record["scene"], other)
            assert judged == statement["label"], (statement, record["scene"], other)


def test_entailments_come_with_all_labels_and_are_labelled_right(records: Records) -> None:
    starts = {template.split("{")[0] for template in UNKNOWABLE}
    for record in records:
        found = {entry["label"]: entry["hypothesis"] for entry in record["entailments"]}
        assert set(found) == {"entailment", "neutral", "contradiction"}
        assert oracle.true_of(found["entailment"], record["scene"])
        assert not oracle.true_of(found["contradiction"], record["scene"])
        assert found["neutral"].startswith(tuple(starts | {"The "}))
        assert not found["neutral"].startswith("There")
        assert all(entry["premise"] == record["captions"][0]["raw"] for entry in record["entailments"])


def test_regions_cover_every_thing_and_their_phrases_are_true(records: Records) -> None:
    for record in records:
        things = record["scene"]["things"]
        regions = record["regions"]
        for thing, region in zip(things, regions, strict=False):
            assert region["box"] == oracle.group_box((thing,))
        members = [box for thing in things if thing["count"] > 1 for box in thing["boxes"]]
        assert [r["box"] for r in regions[len(things) : len(things) + len(members)]] == members
        for region in regions:
            assert oracle.true_of(region["phrase"], record["scene"]), (region, record["scene"])
            assert 0 <= region["box"][0] < region["box"][2] <= 1 and 0 <= region["box"][1] < region["box"][3] <= 1


def test_an_unknown_relation_is_named() -> None:
    with pytest.raises(ValueError, match="'behind'"):
        related("behind", Box(0, 0, 1, 1), Box(0, 0, 1, 1))
