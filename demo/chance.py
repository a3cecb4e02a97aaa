"""What a downstream task scores without looking at the image: by chance, and by the text or the boxes alone."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vlp.data.raw.refcoco import INSTANCES, REFS, read_instances, read_refs
from vlp.evaluation.caption_scores import bleu, cider, words_of
from vlp.evaluation.captions import read_references
from vlp.evaluation.grounding import CORRECT_IOU, Box, best_box, iou
from vlp.evaluation.referents import read_referents
from vlp.evaluation.vqa import answer_accuracy
from vlp.files import read_json

SAMPLE = 300  # boxes of training that are compared
DRAWS = 10  # of captions


def recall_by_chance(relevant: int, candidates: int, k: int) -> float:
    """Percent of queries that find one of ``relevant`` candidates among ``k`` in a random order."""
    misses = math.comb(max(candidates - relevant, 0), k) if k <= candidates else 0
    return 100 * (1 - misses / math.comb(candidates, min(k, candidates)))


class Blind(NamedTuple):
    """Scores without the image, 0 to 1: by chance, and by the text or the boxes alone; and of how many items."""

    chance: float
    alone: float
    items: int


class Labelled(NamedTuple):
    """A sentence and its label."""

    sentence: str
    label: str


class Answered(NamedTuple):
    """A question and all answers to it."""

    question: str
    answers: Sequence[str]


class BagOfWords:
    """Naive Bayes: the label of a text from the words in it, counts smoothed by one."""

    def __init__(self, texts: Sequence[str], labels: Sequence[str]) -> None:
        self.labels = Counter(labels)
        self.words = {label: Counter[str]() for label in self.labels}
        for text, label in zip(texts, labels, strict=True):
            self.words[label].update(set(text.split()))
        self.vocabulary = set().union(*self.words.values())

    @property
    def most_frequent(self) -> str:
        """The label that most texts have."""
        return self.labels.most_common(1)[0][0]

    def label(self, text: str) -> str:
        """The likeliest label."""
        known = set(text.split()) & self.vocabulary

        def score(label: str) -> float:
            count = self.labels[label]
            return math.log(count) + sum(math.log((self.words[label][word] + 1) / (count + 2)) for word in known)

        return max(self.labels, key=score)


def of_labels(learnt: Sequence[Labelled], asked: Sequence[Labelled]) -> Blind:
    """SNLI-VE, NLVR2: the most frequent label, and what the sentence's words say."""
    model = BagOfWords([each.sentence for each in learnt], [each.label for each in learnt])
    guessed = [model.label(each.sentence) == each.label for each in asked]
    return Blind(_mean([model.most_frequent == each.label for each in asked]), _mean(guessed), len(asked))


def of_answers(learnt: Sequence[Answered], asked: Sequence[Answered]) -> Blind:
    """VQA: the most frequent answer, and what the question's words say."""
    chosen = [Counter(each.answers).most_common(1)[0][0] for each in learnt]
    model = BagOfWords([each.question for each in learnt], chosen)
    guessed = [answer_accuracy(model.label(each.question), each.answers) for each in asked]
    frequent = [answer_accuracy(model.most_frequent, each.answers) for each in asked]
    return Blind(_mean(frequent), _mean(guessed), len(asked))


def of_boxes(folder: Path, detections: Path, expressions: Sequence[Path]) -> dict[str, Blind]:
    """RefCOCO+ by split: a random proposal, and the largest, which a map that is even everywhere chooses."""
    referents, even = read_referents(folder, detections), torch.ones(1, 1)
    chance: dict[str, list[float]] = defaultdict(list)
    largest: dict[str, list[bool]] = defaultdict(list)
    for row in (row for path in expressions for row in _rows(path)):
        split, box, proposals, width, height = referents[row["ref_id"]]
        chosen = best_box(even, proposals, width, height)
        assert chosen is not None
        chance[split].append(sum(_same(each, box) for each in proposals) / len(proposals))
        largest[split].append(_same(chosen, box))
    return {split: Blind(_mean(chance[split]), _mean(largest[split]), len(chance[split])) for split in chance}


def of_training_boxes(folder: Path, train: Path, expressions: Sequence[Path]) -> dict[str, Blind]:
    """RefCOCO+ by split, of images of one size: a random box of training, and what an expression's last word says.

    The last word is the object's name, and says where such objects usually are: the box that most of them overlap.
    """
    known, refs = read_instances(folder / INSTANCES).boxes, read_refs(folder / REFS)
    box_of = {int(ref["ref_id"]): known[int(ref["ann_id"])] for ref in refs}
    boxes = _sample([box_of[int(ref["ref_id"])] for ref in refs if ref["split"] == "train"])
    named: dict[str, list[Box]] = defaultdict(list)
    for row in _rows(train):
        named[_last_word(row)].append(box_of[row["ref_id"]])
    usual = {name: _usual(found) for name, found in named.items()}
    anything, referents = _usual(boxes), read_referents(folder, None)
    chance: dict[str, list[float]] = defaultdict(list)
    alone: dict[str, list[bool]] = defaultdict(list)
    for row in (row for path in expressions for row in _rows(path)):
        split, box, *_ = referents[row["ref_id"]]
        chance[split].append(_mean([_same(each, box) for each in boxes]))
        alone[split].append(_same(usual.get(_last_word(row), anything), box))
    return {split: Blind(_mean(chance[split]), _mean(alone[split]), len(chance[split])) for split in chance}


def _sample(boxes: Sequence[Box]) -> list[Box]:
    return random.Random(0).sample(boxes, min(len(boxes), SAMPLE))


def _usual(boxes: Sequence[Box]) -> Box:
    """The one that most of them overlap."""
    compared = _sample(boxes)
    return max(compared, key=lambda box: sum(_same(box, other) for other in compared))


def _last_word(row: dict[str, Any]) -> str:
    return str(row["text"]).split()[-1]


def of_captions(train: Path, references: Path) -> dict[str, float]:
    """Scores of captions that are drawn from the training set, one for each image, the mean of DRAWS draws."""
    texts = [words_of(text) for row in _rows(train) for text in _texts(row["caption"])]
    compared = [[words_of(text) for text in known] for known in read_references(references).values()]
    found, draw = list[dict[str, float]](), random.Random(0)
    for _ in range(DRAWS):
        drawn = [draw.choice(texts) for _ in compared]
        found.append({**bleu(drawn, compared), "CIDEr": cider(drawn, compared)})
    return {name: _mean([scores[name] for scores in found]) for name in found[0]}


def _texts(caption: str | list[str]) -> list[str]:
    return [caption] if isinstance(caption, str) else caption


def _same(proposal: Box, box: Box) -> bool:
    return iou(proposal, box) >= CORRECT_IOU


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_json(path)
    return rows
