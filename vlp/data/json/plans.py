"""Which lists each data set is converted to; names and fields are official.

Source: docs/official/albef.md §3; docs/official/xvlm.md §3.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlp.data.errors import DataError
from vlp.data.json.items import (
    Item,
    Names,
    caption_evaluation_items,
    caption_training_items,
    entailment_items,
    expression_evaluation_items,
    expression_training_items,
    genome_question_items,
    pretraining_items,
    question_items,
    region_items,
    retrieval_evaluation_items,
    retrieval_training_items,
    statement_items,
)
from vlp.data.raw.answers import frequent_answers, normalize_word
from vlp.data.raw.karpathy import read_coco, read_f30k
from vlp.data.raw.lazy import Records
from vlp.data.raw.nlvr2 import read_nlvr2
from vlp.data.raw.records import Question, StatementPair
from vlp.data.raw.refcoco import DETECTIONS, INSTANCES, REFS, read_detections, read_refcoco
from vlp.data.raw.snli import read_snli
from vlp.data.raw.source import Source
from vlp.data.raw.vg import read_vg
from vlp.data.raw.vg_qa import read_vg_qa
from vlp.data.raw.vqa import (
    LABELLED,
    Annotation,
    annotation_file,
    join_images,
    question_file,
    read_annotations,
    read_questions,
)
from vlp.data.raw.web import read_cc12m, read_gcc, read_sbu


@dataclass(frozen=True)
class JsonList:
    """A list to write: the records of its ``parts`` one after the other, each as the ``items`` it becomes.

    ``references`` is a file of its captions in COCO's form, by which generated ones are scored.
    """

    name: str
    items: Callable[[Any, Names], Iterator[Item]]
    parts: tuple[Records[Any], ...]
    references: str | None = None

    @property
    def total(self) -> int:
        """Number of records, if none is left out."""
        return sum(map(len, self.parts))


@dataclass(frozen=True)
class Plan:
    """What a data set becomes.

    ``images`` is the folder below the root that the lists' image names start from, ``root_key`` the key of the
    recipes that names it; ``answers`` are the candidates of VQA, most frequent first; ``copies`` are files of the
    download that evaluation reads as they are.
    """

    lists: list[JsonList]
    images: str = ""
    root_key: str = "image_root"
    answers: list[str] = field(default_factory=list)
    copies: tuple[str, ...] = ()


def image_paths(record: Any) -> tuple[Path, ...]:
    """Return the image files of a record."""
    return (record.left, record.right) if isinstance(record, StatementPair) else (record.path,)


def _coco(source: Source) -> Plan:
    splits = read_coco(source)
    training = (splits["train"], splits["restval"])
    return Plan(
        [
            JsonList("coco.json", pretraining_items, training),
            JsonList("coco_train.json", retrieval_training_items, training),
            *(
                JsonList(f"coco_{split}.json", retrieval_evaluation_items, (splits[split],))
                for split in ("val", "test")
            ),
        ]
    )


def _coco_karpathy(source: Source) -> Plan:
    splits, name = read_coco(source), "coco_karpathy/coco_karpathy_{}.json"
    training = JsonList(name.format("train"), caption_training_items, (splits["train"], splits["restval"]))
    evaluation = [
        JsonList(name.format(split), caption_evaluation_items, (splits[split],), name.format(f"{split}_gt"))
        for split in ("val", "test")
    ]
    return Plan([training, *evaluation])


def _f30k(source: Source) -> Plan:
    splits = read_f30k(source)
    training = JsonList("flickr30k_train.json", retrieval_training_items, (splits["train"],))
    evaluation = ("val", "test")
    return Plan(
        [training]
        + [JsonList(f"flickr30k_{split}.json", retrieval_evaluation_items, (splits[split],)) for split in evaluation]
    )


def _web(read: Callable[[Source], dict[str, Records[Any]]], pattern: str) -> Callable[[Source], Plan]:
    def plan(source: Source) -> Plan:
        splits = read(source)
        if any(part.archived for part in splits.values()):
            raise DataError(
                f"{source.root} holds images in archives ({source.layout}), and lists name image files: unpack each "
                "tar into a folder of its number (docs/data.md), or download with --output_format files"
            )
        return Plan([JsonList(pattern.format(split), pretraining_items, (part,)) for split, part in splits.items()])

    return plan


def _vqa(source: Source) -> Plan:
    """Train and val with their answers, test without; the candidates are made from train and val together."""
    lists, chosen = [], list[str]()
    for split in LABELLED:
        if source.optional(f"vqa_{split}.json", question_file(split), annotation_file(split)):
            annotations = read_annotations(source, split)
            chosen += (normalize_word(entry.multiple_choice_answer) for entry in annotations.values())
            questions = _answered(source, split, annotations)
            lists.append(JsonList(f"vqa_{split}.json", question_items, (join_images(source, split, questions),)))
    if source.optional("vqa_test.json", question_file("test")):
        images = join_images(source, "test", read_questions(source, "test"))
        lists.append(JsonList("vqa_test.json", question_items, (images,)))
    candidates = frequent_answers(answer for answer in chosen if answer)
    return Plan(lists, root_key="vqa_root", answers=sorted(candidates, key=lambda answer: -candidates[answer]))


def _answered(source: Source, split: str, annotations: dict[int, Annotation]) -> Iterator[tuple[int, Question]]:
    for image_id, question in read_questions(source, split, annotations):
        if question.answers:
            yield image_id, question
        else:
            source.skips.add(f"question of {split} without an answer", str(question.question_id))


def _vg_qa(source: Source) -> Plan:
    return Plan([JsonList("vg_qa.json", genome_question_items, (read_vg_qa(source),))], root_key="vg_root")


def _nlvr2(source: Source) -> Plan:
    names = {"train": "nlvr_train.json", "dev": "nlvr_dev.json", "test1": "nlvr_test.json"}
    splits = read_nlvr2(source, tuple(names))
    return Plan([JsonList(name, statement_items, (splits[s],)) for s, name in names.items() if s in splits])


def _snli(source: Source) -> Plan:
    lists = [JsonList(f"ve_{split}.json", entailment_items, (part,)) for split, part in read_snli(source).items()]
    return Plan(lists, images="Flickr30K/images")


def _refcoco(source: Source) -> Plan:
    splits = read_refcoco(source)
    copies = [REFS, INSTANCES]
    if source.optional(f"{DETECTIONS}, which evaluation takes its boxes from", DETECTIONS):
        copies.append(DETECTIONS)
        source.found["images with boxes to choose from"] = len(read_detections(source.root / DETECTIONS))
    return Plan(
        [
            JsonList("refcoco+_train.json", expression_training_items, (splits["train"],)),
            JsonList("refcoco+_val.json", expression_evaluation_items, (splits["val"],)),
            JsonList("refcoco+_test.json", expression_evaluation_items, (splits["testA"], splits["testB"])),
        ],
        copies=tuple(copies),
    )


PLANS: dict[str, Callable[[Source], Plan]] = {
    "coco": _coco,
    "coco_karpathy": _coco_karpathy,
    "f30k": _f30k,
    "vg": lambda source: Plan([JsonList("vg.json", region_items, (read_vg(source),))]),
    "sbu": _web(read_sbu, "sbu.json"),
    "gcc": _web(read_gcc, "cc3m_{}.json"),
    "cc12m": _web(read_cc12m, "cc12m.json"),
    "vqa": _vqa,
    "vg_qa": _vg_qa,
    "nlvr2": _nlvr2,
    "snli": _snli,
    "refcoco+": _refcoco,
}
