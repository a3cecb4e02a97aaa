"""Samples and batches of every kind of list, against what its rows say."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.unit.data.lists import captions, tokenizer, write_images, write_list
from tests.unit.data.raw import write
from vlp.data.errors import DataError
from vlp.data.images import decode_image
from vlp.data.json.collate import JsonCollator, stack
from vlp.data.json.dataset import JsonDataset, Roots
from vlp.data.json.datasets import (
    GroundingTestDataset,
    GroundingTrainDataset,
    PretrainDataset,
    QuestionTestDataset,
    QuestionTrainDataset,
    RetrievalEvalDataset,
    RetrievalTrainDataset,
    StatementTestDataset,
    StatementTrainDataset,
    numbered,
    weighted,
)
from vlp.data.json.transforms import EvalTransform, TrainTransform
from vlp.data.masking import TokenMasker

HERE = Roots({"image_root": ""})
EVAL = EvalTransform(16)
TOKENIZER = tokenizer()


def collator(**options: Any) -> JsonCollator:
    return JsonCollator(TOKENIZER, 25, 512, **options)


def pixels(path: Path) -> Tensor:
    return EVAL(decode_image(path.read_bytes(), "RGB"), random.Random())


def samples(dataset: JsonDataset) -> list[dict[str, Any]]:
    return [dataset[i] for i in range(len(dataset))]


def test_lists_follow_each_other_and_name_their_rows(tmp_path: Path) -> None:
    paths = [captions(tmp_path, "b", 3), captions(tmp_path, "a", 2)]
    dataset = PretrainDataset(paths, HERE, EVAL)
    batch = collator()(samples(dataset))
    assert batch["dataset"] == ["b", "b", "b", "a", "a"]
    assert batch["index"] == [0, 1, 2, 0, 1]
    assert batch["text"] == ["b 0", "b 1", "b 2", "a 0", "a 1"]
    names = [f"b{i}.jpg" for i in range(3)] + [f"a{i}.jpg" for i in range(2)]
    assert torch.equal(batch["image"], torch.stack([pixels(tmp_path / name) for name in names]))
    assert set(batch) == {"image", "text", "text_ids", "text_masks", "dataset", "index"}


def test_a_root_serves_all_lists(tmp_path: Path) -> None:
    path = captions(tmp_path, "a", 1).rename(tmp_path / "elsewhere.json")
    (tmp_path / "lists").mkdir()
    dataset = PretrainDataset([path.rename(tmp_path / "lists/a.json")], Roots({"image_root": str(tmp_path)}), EVAL)
    assert torch.equal(dataset[0]["images"][0], pixels(tmp_path / "a0.jpg"))


def test_every_draw_belongs_to_seed_epoch_list_and_row(tmp_path: Path) -> None:
    path = captions(tmp_path, "a", 6, caption=["a man", "two dogs", "the snow"])
    masker = TokenMasker(TOKENIZER.mask_token_id, len(TOKENIZER), {0, 2}, 0.5)

    def drawn(seed: int, epoch: int, order: list[int], before: int = 0) -> list[tuple[Any, ...]]:
        dataset = PretrainDataset([path], HERE, TrainTransform(16, (0.5, 1.0)), seed)
        dataset.set_epoch(epoch)
        for index in range(before):
            dataset[index]
        batch = collator(masker=masker)([dataset[i] for i in order])
        rows = zip(batch["image"], batch["text"], batch["text_labels_mlm"], strict=True)
        return [(i, *row) for i, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]

    def same(a: Any, b: Any) -> list[bool]:
        return [x[1] == y[1] and torch.equal(x[0], y[0]) for (_, *x), (_, *y) in zip(a, b, strict=True)]

    base = drawn(1, 2, [0, 1, 2, 3, 4, 5])
    assert all(same(base, drawn(1, 2, [5, 3, 4, 1, 2, 0], before=3)))
    assert not all(same(base, drawn(2, 2, [0, 1, 2, 3, 4, 5])))
    assert not all(same(base, drawn(1, 3, [0, 1, 2, 3, 4, 5])))


def test_one_caption_of_a_list_is_drawn_uniformly(tmp_path: Path) -> None:
    dataset = PretrainDataset([captions(tmp_path, "a", 1, caption=["A man.", "two dogs", "snow"])], HERE, EVAL)
    counts: dict[str, int] = {}
    for epoch in range(600):
        dataset.set_epoch(epoch)
        text = dataset.fields(0, dataset.rows[0], dataset.key(0).rng("draws"))["text"]
        counts[text] = counts.get(text, 0) + 1
    assert set(counts) == {"a man", "two dogs", "snow"}
    assert min(counts.values()) > 140


def test_masked_tokens_are_labelled_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    dataset = PretrainDataset([captions(tmp_path, "a", 30, caption="a man riding red bikes two dogs")], HERE, EVAL)
    masker = TokenMasker(TOKENIZER.mask_token_id, len(TOKENIZER), {0, 2}, 0.3)
    batch = collator(masker=masker)([*samples(dataset)[:29], {**dataset[29], "text": "a"}])
    ids, masked, labels = (batch[key] for key in ("text_ids", "text_ids_mlm", "text_labels_mlm"))
    chosen = labels != -100
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert not (chosen & ((ids == TOKENIZER.pad_token_id) | (ids == TOKENIZER.cls_token_id))).any()
    assert 0.15 < chosen.sum() / batch["text_masks"].sum() < 0.4


def test_images_that_cannot_be_read_are_skipped_and_counted(tmp_path: Path) -> None:
    path, after = captions(tmp_path, "a", 4), captions(tmp_path, "b", 2)
    write(tmp_path / "a1.jpg", b"broken")
    (tmp_path / "a2.jpg").unlink()
    write(tmp_path / "b1.jpg", b"broken")
    dataset = RetrievalTrainDataset([_with_ids(path), _with_ids(after)], HERE, EVAL)
    batch = collator()(samples(dataset))
    assert batch["index"] == [0, 3, 3, 3, 0, 0]
    assert batch["dataset"] == ["a", "a", "a", "a", "b", "a"]
    assert batch["text"] == ["a 0", "a 3", "a 3", "a 3", "b 0", "a 0"]
    assert batch["image_id"].tolist() == [0, 3, 3, 3, 4, 0]
    assert {name: (guard.reads, guard.failures) for name, guard in dataset.guards.items()} == {"a": (8, 3), "b": (2, 1)}


def _with_ids(path: Path) -> Path:
    rows = [{**row, "image_id": row["image"]} for row in json.loads(path.read_text())]
    return write_list(path, rows)


def test_an_evaluation_must_see_every_image(tmp_path: Path) -> None:
    path = captions(tmp_path, "a", 2, caption=["x"])
    write(tmp_path / "a1.jpg", b"broken")
    with pytest.raises(DataError, match=r"cannot read the image at .*a.json: row 1: .*vlp.data.json check"):
        RetrievalEvalDataset([path], HERE, EVAL)[1]


def test_a_list_without_any_image_ends(tmp_path: Path) -> None:
    path = captions(tmp_path, "a", 3)
    for i in range(3):
        write(tmp_path / f"a{i}.jpg", b"broken")
    with pytest.raises(DataError, match=r"no image of .*a.json can be read"):
        PretrainDataset([path], HERE, EVAL)[0]


def test_a_root_that_holds_none_of_the_images_is_refused_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    paths = [captions(tmp_path, "a", 120), captions(tmp_path, "b", 3)]
    other = Roots({"image_root": str(tmp_path / "other")})
    with pytest.raises(DataError, match=r"a.json: not one of the images .* such as .*other/a\d+.jpg; set image_root"):
        PretrainDataset(paths, other, EVAL)
    for i in range(119):
        (tmp_path / f"a{i}.jpg").rename(tmp_path / "other" / f"a{i}.jpg")  # one is left
    assert len(PretrainDataset(paths[1:], HERE, EVAL)) == 3
    with pytest.raises(DataError, match=r"b.json: not one"):
        PretrainDataset(paths, other, EVAL)


def test_retrieval_numbers_images_by_first_appearance(tmp_path: Path) -> None:
    write_images(tmp_path, ["x.jpg"])
    row = {"image": "x.jpg", "caption": "A dog!"}
    first = write_list(tmp_path / "a.json", [{**row, "image_id": i} for i in ("b", 7, "b", "7")])
    second = write_list(tmp_path / "b.json", [{**row, "image_id": i} for i in (7, "c")])
    dataset = RetrievalTrainDataset([first, second], HERE, EVAL)
    batch = collator()(samples(dataset))
    assert batch["image_id"].tolist() == [0, 1, 0, 2, 1, 3]
    assert batch["image_id"].dtype == torch.int64
    assert batch["text"] == ["a dog"] * 6


@given(st.lists(st.integers(0, 5) | st.text(max_size=1)))
def test_numbers_by_first_appearance(values: list[int | str]) -> None:
    distinct: list[int | str] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    assert numbered(values).tolist() == [distinct.index(value) for value in values]
    assert numbered(values).dtype == np.int32


def test_retrieval_evaluation_knows_whose_caption_is_whose(tmp_path: Path) -> None:
    write_images(tmp_path, ["0.jpg", "1.jpg", "2.jpg"])
    rows = [{"image": f"{i}.jpg", "caption": [f"A dog, {i}-{j}" for j in range(n)]} for i, n in enumerate((2, 1, 3))]
    dataset = RetrievalEvalDataset([write_list(tmp_path / "a.json", rows)], HERE, EVAL)
    assert dataset.text == ["a dog 0 0", "a dog 0 1", "a dog 1 0", "a dog 2 0", "a dog 2 1", "a dog 2 2"]
    assert dataset.img2txt == {0: [0, 1], 1: [2], 2: [3, 4, 5]}
    assert dataset.txt2img == {0: 0, 1: 0, 2: 1, 3: 2, 4: 2, 5: 2}
    batch = collator(plans=[lambda batch: {"plan": 1}])(samples(dataset))
    assert batch["image_index"].tolist() == [0, 1, 2]
    assert set(batch) == {"image", "image_index", "dataset", "index"}


def test_answers_are_weighted_closed_and_flattened(tmp_path: Path) -> None:
    write_images(tmp_path, ["vqa/1.jpg", "vg/1.jpg"])
    rows: list[dict[str, Any]] = [
        {"dataset": "vqa", "image": "1.jpg", "question": "Dogs?", "answer": ["yes", "no", "yes", "two dogs"]},
        {"dataset": "vg", "image": "1.jpg", "question": "What?", "answer": "Snow"},
    ]
    roots = Roots({f"{source}_root": str(tmp_path / source) for source in ("vqa", "vg")})
    dataset = QuestionTrainDataset([write_list(tmp_path / "a.json", rows)], roots, EVAL)
    batch = collator(plans=[lambda batch: {"seen": batch["answer_counts"]}])(samples(dataset))
    assert batch["text"] == ["dogs", "what"] and batch["answer_counts"] == batch["seen"] == [3, 1]
    assert batch["answer_weights"].tolist() == [0.5, 0.25, 0.25, 0.5]
    assert batch["answer_weights"].dtype == torch.float32
    texts = [TOKENIZER.convert_ids_to_tokens(row.tolist()) for row in batch["answer_ids"]]
    assert texts[0] == ["[CLS]", "yes", "[SEP]", "[PAD]", "[PAD]"]
    assert texts[2] == ["[CLS]", "two", "dog", "##s", "[SEP]"]
    assert batch["answer_masks"].sum(dim=1).tolist() == [3, 3, 5, 3]
    assert torch.equal(batch["image"][1], pixels(tmp_path / "vg/1.jpg"))
    assert "answers" not in batch


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=10))
def test_a_weight_is_the_share_of_the_annotators(answers: list[str]) -> None:
    got = weighted(answers)
    assert list(got) == sorted(set(answers), key=answers.index)
    assert all(weight == answers.count(answer) / len(answers) for answer, weight in got.items())
    assert weighted("abc") == {"abc": 0.5}


def test_questions_to_answer(tmp_path: Path) -> None:
    write_images(tmp_path, ["1.jpg"])
    row: dict[str, Any] = {"dataset": "vqa", "image": "1.jpg", "question": "word " * 60}
    rows = [{**row, "question_id": 2**40}, {**row, "question_id": 3, "answer": ["yes"] * 10}]
    roots = Roots(dict.fromkeys(("vqa_root", "vg_root"), ""))
    batch = collator()(samples(QuestionTestDataset([write_list(tmp_path / "a.json", rows)], roots, EVAL)))
    assert batch["question_id"] == [2**40, 3]
    assert batch["answers"] == [[], ["yes"] * 10]
    assert batch["text"][0] == " ".join(["word"] * 50)


@pytest.mark.parametrize("kind", [StatementTrainDataset, StatementTestDataset])
def test_left_images_come_first(tmp_path: Path, kind: type[JsonDataset]) -> None:
    names = [f"{i}{side}.jpg" for i in range(3) for side in "lr"]
    write_images(tmp_path, names)
    rows = [
        {"images": [f"{i}l.jpg", f"{i}r.jpg"], "sentence": "Two dogs.", "label": label}
        for i, label in enumerate(("True", "False", "True"))
    ]
    batch = collator()(samples(kind([write_list(tmp_path / "a.json", rows)], HERE, EVAL)))
    order = [f"{i}{side}.jpg" for side in "lr" for i in range(3)]
    assert torch.equal(batch["image"], torch.stack([pixels(tmp_path / name) for name in order]))
    assert batch["labels"].tolist() == [1, 0, 1]


def test_the_two_images_of_a_statement_are_augmented_by_themselves(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "1.png")
    row = {"images": ["1.png", "1.png"], "sentence": "x", "label": "True"}
    dataset = StatementTrainDataset([write_list(tmp_path / "a.json", [row])], HERE, TrainTransform(16, (0.5, 1.0)))
    left, right = dataset[0]["images"]
    assert not torch.equal(left, right)


def test_phrases(tmp_path: Path) -> None:
    write_images(tmp_path, ["a/1.jpg", "b/1.jpg", "b/2.jpg"])
    rows = [{"image": name, "text": "The Red bike", "ref_id": 5} for name in ("a/1.jpg", "b/2.jpg", "b/1.jpg")]
    path = write_list(tmp_path / "a.json", rows)
    train = collator()(samples(GroundingTrainDataset([path], HERE, EVAL)))
    assert train["image_id"].tolist() == [0, 1, 0]
    test = collator()(samples(GroundingTestDataset([path], HERE, EVAL)))
    assert test["ref_id"] == [5, 5, 5]
    assert test["text"] == train["text"] == ["the red bike"] * 3


def test_stacking_keeps_the_order_of_samples() -> None:
    images = [[torch.full((3, 2, 2), float(10 * i + j)) for j in range(2)] for i in range(3)]
    assert stack(images)[:, 0, 0, 0].tolist() == [0, 10, 20, 1, 11, 21]
