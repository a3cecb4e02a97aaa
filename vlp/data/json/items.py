"""Neutral records -> items of ALBEF's and X-VLM's lists. ``names`` are the record's images as the list names them.

Source: docs/official/albef.md §3; docs/official/xvlm.md §3.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os.path import basename, splitext
from typing import Any

from vlp.data.raw.answers import normalize_word
from vlp.data.raw.karpathy import image_number
from vlp.data.raw.records import (
    CaptionedImage,
    EntailmentImage,
    QuestionedImage,
    ReferredObject,
    RegionImage,
    StatementPair,
)

Item = dict[str, Any]
Names = Sequence[str]


def pretraining_items(image: CaptionedImage, names: Names) -> Iterator[Item]:
    """COCO, SBU, CC3M, CC12M in pre-training: one item per caption."""
    for caption in image.captions:
        yield {"image": names[0], "caption": caption}


def region_items(image: RegionImage, names: Names) -> Iterator[Item]:
    """Visual Genome in pre-training: one item per image, its distinct phrases as a list of which each epoch draws."""
    yield {"image": names[0], "caption": list(dict.fromkeys(region.phrase for region in image.regions))}


def retrieval_training_items(image: CaptionedImage, names: Names) -> Iterator[Item]:
    """COCO, Flickr30k: one item per caption; captions of one image share its id."""
    for caption in image.captions:
        yield {"image": names[0], "caption": caption, "image_id": image.image_id}


def retrieval_evaluation_items(image: CaptionedImage, names: Names) -> Iterator[Item]:
    """COCO, Flickr30k: one item per image with all its captions."""
    yield {"image": names[0], "caption": list(image.captions)}


def caption_training_items(image: CaptionedImage, names: Names) -> Iterator[Item]:
    """COCO for captioning: one item per caption, the image known by its id in COCO."""
    for caption in image.captions:
        yield {"image": names[0], "caption": caption, "image_id": _image_id(names[0])}


def caption_evaluation_items(image: CaptionedImage, names: Names) -> Iterator[Item]:
    """COCO for captioning: one item per image with all its captions."""
    yield {"image": names[0], "caption": list(image.captions), "image_id": _image_id(names[0])}


def question_items(image: QuestionedImage, names: Names) -> Iterator[Item]:
    """VQA v2: one item per question, with the ten annotators' answers where they are published."""
    for question in image.questions:
        item = _question("vqa", names[0], question.text, question.question_id)
        yield {**item, "answer": list(question.answers)} if question.answers else item


def genome_question_items(image: QuestionedImage, names: Names) -> Iterator[Item]:
    """Visual Genome: one item per question; its answer in the form of VQA v2's ("On the street." -> "on street")."""
    for question in image.questions:
        answer = normalize_word(question.answers[0])
        yield {**_question("vg", names[0], question.text, question.question_id), "answer": answer}


def statement_items(pair: StatementPair, names: Names) -> Iterator[Item]:
    """NLVR2: one item per statement; the label is the string "True" or "False"."""
    for statement in pair.statements:
        yield {"images": list(names), "sentence": statement.sentence, "label": statement.label}


def entailment_items(image: EntailmentImage, names: Names) -> Iterator[Item]:
    """SNLI-VE: one item per hypothesis; the image's name is without its extension."""
    for entailment in image.entailments:
        yield {"image": splitext(names[0])[0], "sentence": entailment.hypothesis, "label": entailment.label}


def expression_training_items(found: ReferredObject, names: Names) -> Iterator[Item]:
    """RefCOCO+: one item per expression, with the id by which training on boxes (X-VLM's) finds its box."""
    yield from expression_evaluation_items(found, names)


def expression_evaluation_items(found: ReferredObject, names: Names) -> Iterator[Item]:
    """RefCOCO+: one item per expression, with the id by which evaluation finds split and box."""
    for expression in found.expressions:
        yield {"image": names[0], "text": expression, "ref_id": found.ref_id}


def _image_id(name: str) -> int | str:
    number = image_number(name)
    return splitext(basename(name))[0] if number is None else number


def _question(dataset: str, image: str, text: str, question_id: int) -> Item:
    return {"dataset": dataset, "image": image, "question": text, "question_id": question_id}
