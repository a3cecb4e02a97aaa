"""The kinds of official lists that ALBEF and X-VLM read; ``albef.dataset`` has those of ALBEF alone.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

from vlp.data.json.fields import (
    Row,
    RowKind,
    file_name,
    identifier,
    one_of,
    text,
    text_or_texts,
    texts,
    two_file_names,
    whole_number,
)

SOURCES = ("vqa", "vg")  # `dataset` of a question: where its image and its answers come from


def _answers_fit(row: Row) -> str | None:
    """The answers of VQAv2's annotators are a list, Visual Genome's answer is a string."""
    wanted, check = ("a list of strings", texts) if row["dataset"] == "vqa" else ("one string", text)
    if check(row["answer"]):
        return f"'answer' of dataset {row['dataset']} must be {wanted}, not {type(row['answer']).__name__}"
    return whole_number(row["question_id"]) and "'question_id' must be an integer" if "question_id" in row else None


def _annotated(row: Row) -> str | None:
    """A test list may have the annotators' answers."""
    wrong = texts(row["answer"]) if "answer" in row else None
    return wrong and f"'answer' {wrong}"


def _question_of_vqa(row: Row) -> int | None:
    return row.get("question_id") if row["dataset"] == "vqa" else None


CAPTIONS = RowKind("pre-training", {"image": file_name, "caption": text_or_texts})
RETRIEVAL_TRAIN = RowKind("retrieval training", {"image": file_name, "caption": text, "image_id": identifier})
RETRIEVAL_EVAL = RowKind(
    "retrieval evaluation", {"image": file_name, "caption": texts}, identity=lambda row: row["image"]
)
QUESTIONS_TRAIN = RowKind(
    "question training",
    {"dataset": one_of(SOURCES), "image": file_name, "question": text, "answer": text_or_texts},
    rule=_answers_fit,
    identity=_question_of_vqa,
)
QUESTIONS_TEST = RowKind(
    "question test",
    {"dataset": one_of(SOURCES), "image": file_name, "question": text, "question_id": whole_number},
    rule=_annotated,
    identity=lambda row: row["question_id"],
)
STATEMENTS = RowKind("statement", {"images": two_file_names, "sentence": text, "label": one_of(("True", "False"))})
ENTAILMENTS = RowKind(
    "entailment", {"image": file_name, "sentence": text, "label": one_of(("contradiction", "neutral", "entailment"))}
)
GROUNDING_TRAIN = RowKind("grounding training", {"image": file_name, "text": text})
GROUNDING_TEST = RowKind("grounding test", {"image": file_name, "text": text, "ref_id": whole_number})
