"""What each of ALBEF's scripts reads, and what the official loaders do to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from albef.config import COMMANDS
from albef.dataset import DATA
from tests.tokenizers import folder_of_vocabulary
from tests.unit.data.lists import VOCABULARY, write_images, write_list
from vlp.config.schema import defaults
from vlp.data.errors import DataError

LONG = "a man " * 40
LISTS: dict[str, dict[str, Any]] = {
    "Pretrain": {"image": "1.jpg", "caption": [LONG, LONG]},
    "Retrieval": {"image": "1.jpg", "caption": LONG, "image_id": "x"},
    "VQA": {"dataset": "vqa", "image": "1.jpg", "question": LONG, "answer": ["yes", "no"], "question_id": 0},
    "VE": {"image": "1", "sentence": LONG, "label": "entailment"},
    "NLVR": {"images": ["1.jpg", "2.jpg"], "sentence": LONG, "label": "True"},
    "Pretrain_nlvr": {"image": "1.jpg", "caption": LONG},
    "Grounding": {"image": "1.jpg", "text": LONG, "ref_id": 4},
}
TOKENS = {"Pretrain": 25, "Pretrain_nlvr": 25, "VQA": 25}  # others: 30 words, of one piece each, and [CLS]
SPLITS = {"Retrieval": ("val", "test"), "VQA": ("test",), "Grounding": ("val",), "Pretrain": (), "Pretrain_nlvr": ()}


def config(script: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """The script's official values, with one list of three rows everywhere."""
    row = LISTS[script]
    write_images(folder, ["1.jpg", "2.jpg"])
    rows = [{**row, "question_id": i} if script == "VQA" else row for i in range(3)]
    path = str(write_list(folder / "l.json", rows))
    evaluated = [{**row, "caption": [LONG, "dog"]}] if script == "Retrieval" else rows
    values = {**defaults(COMMANDS[script].schema), "train_file": [path], "num_workers": 0, "image_res": 16}
    for key in ("val_file", "test_file"):
        if key in values:
            values[key] = str(write_list(folder / "e.json", evaluated))
    if script == "VQA":
        values["answer_list"] = str(write_list(folder / "answers.json", ["yes", "no"]))  # type: ignore[list-item]
    for key in ("batch_size", "batch_size_train", "batch_size_test"):
        if key in values:
            values[key] = 2
    bert = {"vocab_size": 30522, "max_position_embeddings": 512}
    return {**values, "bert_config": bert, **changes}


@pytest.fixture(scope="module")
def vocabulary():  # type: ignore[no-untyped-def]
    with folder_of_vocabulary(VOCABULARY) as folder:
        yield str(folder)


@pytest.mark.parametrize("script", DATA)
def test_a_script_reads_its_lists(tmp_path: Path, vocabulary: str, script: str) -> None:
    data = DATA[script](config(script, tmp_path, text_encoder=vocabulary))
    assert data.eval_splits == SPLITS.get(script, ("val", "test"))
    assert tuple(data.sets) == ("train", *data.eval_splits)
    assert data.has_validation == (script not in ("Pretrain", "Pretrain_nlvr", "VQA"))
    (batch,) = data.train_dataloader()
    assert batch["image"].shape == ((4 if script == "NLVR" else 2), 3, 16, 16)
    assert batch["text_ids"].shape == (2, TOKENS.get(script, 31))
    assert "text" in batch["plan"]
    assert ("text_ids_mlm" in batch) == ("mlm" in batch["plan"]) == (script == "Pretrain")
    assert batch["dataset"] == ["l", "l"]
    expected = {"VE": 2, "NLVR": 1}.get(script)
    assert ("labels" in batch) == (expected is not None)
    if expected is not None:
        assert batch["labels"].tolist() == [expected] * 2
    if script in ("Retrieval", "Grounding"):
        assert batch["image_id"].tolist() == [0, 0]
    for loader in data.test_dataloader():
        evaluated = next(iter(loader))
        if script == "Retrieval":
            assert evaluated["image_index"].tolist() == [0]
        else:
            assert evaluated["text_ids"].shape == (2, 51 if script == "VQA" else 31)
            assert torch.equal(evaluated["image"][0], next(iter(loader))["image"][0])
    assert data.test_dataloader() == [] or script not in ("Pretrain", "Pretrain_nlvr")


def test_an_evaluation_reads_no_training_list(tmp_path: Path, vocabulary: str) -> None:
    values = config("VE", tmp_path, text_encoder=vocabulary, evaluate=True, train_file="none.json")
    assert tuple(DATA["VE"](values).sets) == ("val", "test")


def test_candidates_are_those_of_the_answer_list(tmp_path: Path, vocabulary: str) -> None:
    data = DATA["VQA"](config("VQA", tmp_path, text_encoder=vocabulary))
    assert data.sets["test"].answer_list == ["yes", "no"]  # type: ignore[attr-defined]


def test_grounding_keeps_the_whole_image(tmp_path: Path, vocabulary: str) -> None:
    """Without a crop a sample differs by flip and augmentation alone: one of many is the resized image itself."""
    data = DATA["Grounding"](config("Grounding", tmp_path, text_encoder=vocabulary))
    (plain,) = data.sets["val"][0]["images"]
    train = data.sets["train"]
    found = 0
    for epoch in range(40):
        train.set_epoch(epoch)
        found += torch.equal(train[0]["images"][0], plain)
    assert found


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(tmp_path: Path, vocabulary: str) -> None:
    values = config("VE", tmp_path, text_encoder=vocabulary)
    values["bert_config"] = {**values["bert_config"], "vocab_size": 20}
    with pytest.raises(ValueError, match=r"vocab_size is 20, but text_encoder=.* has 21"):
        DATA["VE"](values)


def test_what_is_wrong_with_a_list_is_said_before_the_run(tmp_path: Path, vocabulary: str) -> None:
    values = config("VE", tmp_path, text_encoder=vocabulary)
    write_list(tmp_path / "e.json", [LISTS["VE"], {**LISTS["VE"], "label": "maybe"}])
    with pytest.raises(DataError, match=r"e.json: row 1: 'label' must be 'contradiction'"):
        DATA["VE"](values)
