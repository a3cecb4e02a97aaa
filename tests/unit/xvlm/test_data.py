"""What each of X-VLM's scripts reads, and what the official loaders do to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tokenizers import folder_of_vocabulary
from tests.unit.data.jsonl.files import binary, write_lines
from tests.unit.data.lists import VOCABULARY, write_images, write_list
from vlp.config.schema import defaults
from vlp.data.errors import DataError
from vlp.data.json.transforms import to_tensor
from xvlm.config import COMMANDS
from xvlm.dataset import DATA
from xvlm.dataset.finetuning import image_id

LONG = "a man " * 40
BOX = [5, 5, 20, 15]
ROWS: dict[str, dict[str, Any]] = {
    "Retrieval": {"image": "1.jpg", "caption": LONG, "image_id": "x"},
    "VQA": {"image": "1.jpg", "question": LONG, "answer": ["yes", "no", "yes"], "dataset": "vqa", "question_id": 0},
    "NLVR": {"images": ["1.jpg", "2.jpg"], "sentence": LONG, "label": "True"},
    "Grounding": {"image": "1.jpg", "text": LONG, "ref_id": 4},
    "Grounding_bbox": {"image": "1.jpg", "text": LONG, "ref_id": 4, "bbox": BOX},
    "Captioning": {"image": "1.jpg", "caption": LONG},
}
STREAMS = {
    "Pretrain": {"images", "regions"},
    "NLVR_pretrain": {"images"},
    "Captioning_pretrain": {"images"},
    "Grounding_bbox_pretrain": {"regions"},
}
SPLITS = {"VQA": ("test",), "Grounding": ("val",), "Grounding_bbox": ("val",)}


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[str]:
    with folder_of_vocabulary(VOCABULARY) as folder:
        yield str(folder)


def base(script: str, vocabulary: str, folder: Path) -> dict[str, Any]:
    """The script's official values, small."""
    values = {**defaults(COMMANDS[script].schema), "image_res": 64, "num_workers": 0, "output_dir": str(folder)}
    text = {"vocab_size": 30522, "max_position_embeddings": 512}
    return {**values, "text_config": text, "text_encoder": vocabulary, "seed": 0}


def config(script: str, folder: Path, vocabulary: str, **changes: Any) -> dict[str, Any]:
    """A fine-tuning script with one list of three rows everywhere."""
    row = ROWS[script]
    write_images(folder, ["1.jpg", "2.jpg"])
    rows = [{**row, "question_id": i} if script == "VQA" else row for i in range(3)]
    evaluated = [{**row, "caption": [LONG, "dog"]}] if script in ("Retrieval", "Captioning") else rows
    values = base(script, vocabulary, folder)
    values["train_file"] = [str(write_list(folder / "l.json", rows))]
    values |= {key: str(folder) for key in values if key.endswith("_root")}
    for key in ("val_file", "test_file"):
        if key in values:
            values[key] = str(write_list(folder / "e.json", evaluated))
    if script == "VQA":
        values["answer_list"] = str(write_list(folder / "answers.json", ["yes", "no"]))  # type: ignore[list-item]
    values |= {key: 2 for key in values if key.startswith("batch_size")}
    return {**values, **changes}


def streams(script: str, folder: Path, vocabulary: str, **changes: Any) -> dict[str, Any]:
    """A pre-training stage with five pairs and four images with regions."""
    caption = {"caption": LONG, "desc": "a man"}
    pairs = write_lines(folder / "pairs.jsonl", [{"binary": binary(i), **caption} for i in range(5)])
    elements = [{"caption": "a dog", "bb": BOX}, {"caption": "snow", "bb": [0, 0, 40, 30]}]
    regions = write_lines(folder / "regions", [{"binary": binary(i), "elems": elements} for i in range(4)])
    values = base(script, vocabulary, folder)
    for name, path, small in (
        ("images", pairs, {"batch_size": 2}),
        ("regions", regions, {"batch_size": 5, "max_images": 2}),
    ):
        if name in values:
            values[name] = {**values[name], **small, "num_workers": 0}
            values["train_file" if name == "images" else "train_file_regions"] = [str(path)]
    return {**values, "train_dataset_size": 8, **changes}


def test_every_script_has_its_data() -> None:
    assert DATA.keys() == COMMANDS.keys() == ROWS.keys() | STREAMS.keys()


@pytest.mark.parametrize("script", ROWS)
def test_a_script_reads_its_lists(tmp_path: Path, vocabulary: str, script: str) -> None:
    data: Any = DATA[script](config(script, tmp_path, vocabulary))
    assert data.eval_splits == SPLITS.get(script, ("val", "test")) and data.has_validation
    assert tuple(data.sets) == ("train", *data.eval_splits)
    (batch,) = data.train_dataloader()
    assert batch["image"].shape == ((4 if script == "NLVR" else 2), 3, 64, 64)
    # 30 words of one piece each and [CLS]; a prompt of three words and [SEP]
    assert batch["text_ids"].shape == (2, 35 if script == "Captioning" else 31)
    assert "text" in batch["plan"] and batch["dataset"] == ["l", "l"] and "text_ids_mlm" not in batch
    assert batch["labels"].tolist() == [1, 1] if script == "NLVR" else "labels" not in batch
    for loader in data.test_dataloader():
        evaluated = next(iter(loader))
        assert evaluated["image"].shape[1:] == (3, 64, 64)
        if script.startswith("Grounding"):
            assert evaluated["ref_id"] == [4, 4]


def test_an_evaluation_needs_no_training_list(tmp_path: Path, vocabulary: str) -> None:
    values = config("Retrieval", tmp_path, vocabulary, train_file=["nowhere.json"], evaluate=True)
    data: Any = DATA["Retrieval"](values)
    assert tuple(data.sets) == ("val", "test")


def test_questions_are_cut_and_take_their_folder_from_their_source(
    tmp_path: Path, vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``dataset`` it is vqa's; images of gqa are named from the working directory."""
    rows = [{"image": "1.jpg", "question": LONG, "answer": ["yes"]}]
    rows += [{**rows[0], "dataset": name, "image": f"{name}.jpg"} for name in ("vg", "gqa")]
    folders = {name: tmp_path / name for name in ("vqa", "vg", "here")}
    for name, image in (("vqa", "1"), ("vg", "vg"), ("here", "gqa")):
        write_images(folders[name], [f"{image}.jpg"])
    monkeypatch.chdir(folders["here"])
    values = config("VQA", tmp_path, vocabulary, vqa_root=str(folders["vqa"]), vg_root=str(folders["vg"]), max_tokens=9)
    values["train_file"] = [str(write_list(tmp_path / "l.json", rows))]
    data: Any = DATA["VQA"]({**values, "batch_size_train": 3})
    (batch,) = data.train_dataloader()
    assert sorted(batch["index"]) == [0, 1, 2] and batch["text_ids"].shape == (3, 9)
    assert not any(guard.failures for guard in data.sets["train"].guards.values())


@pytest.mark.parametrize(
    ("question", "answer", "flips"),
    [
        ("what is on the left", ["dog"], False),
        ("where is it", ["dog", "to the right"], False),
        ("where is it", ["dog"], True),
    ],
)
def test_a_question_is_flipped_unless_it_speaks_of_sides(
    tmp_path: Path, vocabulary: str, question: str, answer: list[str], flips: bool
) -> None:
    values = config("VQA", tmp_path, vocabulary)
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:, :20] = 255
    Image.fromarray(pixels).save(tmp_path / "3.png")
    row = {"image": "3.png", "question": question, "answer": answer, "dataset": "vqa"}
    values["train_file"] = [str(write_list(tmp_path / "l.json", [row]))]
    data: Any = DATA["VQA"](values)
    train = data.sets["train"]
    train.transform = lambda image, rng: to_tensor(image)
    lefts = []
    for epoch in range(30):
        train.set_epoch(epoch)
        (image,) = train[0]["images"]
        lefts.append(bool(image[:, :, :20].mean() > image[:, :, 20:].mean()))
    assert all(lefts) != flips and any(lefts)


def test_boxes_follow_their_crop(tmp_path: Path, vocabulary: str) -> None:
    """The box is white on black: where the target says is what the view shows white."""
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[5:20, 5:25] = 255
    values = config("Grounding_bbox", tmp_path, vocabulary)
    Image.fromarray(pixels).save(tmp_path / "3.png")
    row = {"image": "3.png", "text": "a box", "bbox": BOX}
    values["train_file"] = [str(write_list(tmp_path / "l.json", [row]))]
    train: Any = DATA["Grounding_bbox"](values).sets["train"]
    train.transform = lambda image, rng: torch.from_numpy(np.asarray(image)[:, :, 0] > 127)
    targets = set()
    for epoch in range(40):
        train.set_epoch(epoch)
        sample = train[0]
        rows, columns = torch.nonzero(sample["images"][0], as_tuple=True)
        seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 64
        cx, cy, w, h = sample["target_bbox"]
        assert torch.allclose(torch.tensor([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]), seen, atol=1.5 / 64)
        targets.add((cx, cy))
    assert len(targets) > 30


@pytest.mark.parametrize(("careful", "text", "flips"), [(True, "left dog", False), (False, "left dog", True)])
def test_a_phrase_of_a_side_is_flipped_only_without_care(
    tmp_path: Path, vocabulary: str, careful: bool, text: str, flips: bool
) -> None:
    values = config("Grounding_bbox", tmp_path, vocabulary, careful_hflip=careful)
    assert defaults(COMMANDS["Grounding_bbox"].schema)["careful_hflip"] is True
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:, :20] = 255
    Image.fromarray(pixels).save(tmp_path / "3.png")
    row = {"image": "3.png", "text": text, "bbox": [0, 0, 40, 30]}
    values["train_file"] = [str(write_list(tmp_path / "l.json", [row]))]
    train: Any = DATA["Grounding_bbox"](values).sets["train"]
    train.transform = lambda image, rng: to_tensor(image)
    lefts = set()
    for epoch in range(30):
        train.set_epoch(epoch)
        (image,) = train[0]["images"]
        lefts.add(bool(image[:, :, :32].mean() > image[:, :, 32:].mean()))
    assert lefts == ({True, False} if flips else {True})


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, "lacks 'bbox'"),
        ({"bbox": [1, 2, 3]}, "'bbox': the box"),
        ({"ref_id": "x"}, "'ref_id' must be an integer"),
        ({"ref_id": 7}, r"instances\.json"),
    ],
)
def test_a_phrase_without_a_box_is_refused(tmp_path: Path, vocabulary: str, row: dict[str, Any], says: str) -> None:
    values = config("Grounding_bbox", tmp_path, vocabulary, refcoco_data=str(tmp_path))
    values["train_file"] = [str(write_list(tmp_path / "l.json", [{"image": "1.jpg", "text": "a dog", **row}]))]
    with pytest.raises(DataError, match=says):
        DATA["Grounding_bbox"](values)


def test_a_box_outside_of_its_image_is_left_out(tmp_path: Path, vocabulary: str) -> None:
    values = config("Grounding_bbox", tmp_path, vocabulary)
    rows = [{"image": "1.jpg", "text": f"{i}", "bbox": box} for i, box in enumerate(([0, 0, 99, 9], BOX, [0, 0, 0, 9]))]
    values["train_file"] = [str(write_list(tmp_path / "l.json", rows))]
    train: Any = DATA["Grounding_bbox"](values).sets["train"]
    assert [train[i]["text"] for i in range(3)] == ["1"] * 3 and train.guards["l"].failures == 3


def test_captions_begin_with_the_prompt_and_end(tmp_path: Path, vocabulary: str) -> None:
    data: Any = DATA["Captioning"](config("Captioning", tmp_path, vocabulary, max_tokens=9))
    (batch,) = data.train_dataloader()
    text = data.tokenizer.convert_ids_to_tokens(batch["text_ids"][0])
    beginning = data.tokenizer.tokenize("a picture of")
    assert text[0] == "[CLS]" and text[1 : 1 + len(beginning)] == beginning and text[-1] == "[SEP]" and len(text) == 9
    evaluated = next(iter(data.test_dataloader()[0]))
    assert evaluated["image_id"] == [1] and "text_ids" not in evaluated


def test_an_image_is_known_by_the_number_in_its_name() -> None:
    assert image_id({"image": "val2014/COCO_val2014_000000391895.jpg"}) == 391895
    assert image_id({"image": "scenes/a.png", "image_id": "7"}) == "7"
    assert image_id({"image": "scenes/a.png"}) == "a"


@pytest.mark.parametrize("script", STREAMS)
def test_a_stage_reads_its_streams(tmp_path: Path, vocabulary: str, script: str) -> None:
    data: Any = DATA[script](streams(script, tmp_path, vocabulary))
    assert data.eval_splits == () and not data.has_validation and set(data.sources) == STREAMS[script]
    loader = data.train_dataloader()
    steps = 2 if script == "Grounding_bbox_pretrain" else 4
    assert loader.steps == steps and len(loader) == steps + 2 * (script == "Pretrain")
    batches = {batch["stream"]: batch for batch in loader}
    assert batches.keys() == STREAMS[script]
    for stream, batch in batches.items():
        masked = script == "Pretrain"
        assert ("text_ids_mlm" in batch) == ("mlm" in batch["plan"]) == masked
        if stream == "images":
            ends = data.tokenizer.convert_ids_to_tokens(batch["text_ids"][:, -1])
            tokens = {"Captioning_pretrain": 4}.get(script, 40)  # "desc" is short
            assert batch["image"].shape == (2, 3, 64, 64) and batch["text_ids"].shape == (2, tokens)
            assert set(ends) == {"[SEP]" if script == "Captioning_pretrain" else "a"}
        else:
            assert batch["image"].shape == (2, 3, 64, 64) and batch["target_bbox"].shape == (5, 4)
            assert batch["image_atts"].shape == (5, 1 + 2 * 2)


def test_without_region_files_there_is_one_stream(tmp_path: Path, vocabulary: str) -> None:
    data: Any = DATA["Pretrain"](streams("Pretrain", tmp_path, vocabulary, train_file_regions=[]))
    assert {batch["stream"] for batch in data.train_dataloader()} == {"images"} and data.region_collate is None


def test_fixed_views_are_the_same_in_every_pass(tmp_path: Path, vocabulary: str) -> None:
    for fixed in (True, False):
        data: Any = DATA["NLVR_pretrain"](streams("NLVR_pretrain", tmp_path, vocabulary, fixed_views=fixed))
        loader = data.train_dataloader()
        seen: dict[int, list[torch.Tensor]] = {}
        for _ in range(4):
            for batch in loader:
                data.consumed(batch)
                for index, image in zip(batch["index"], batch["image"], strict=True):
                    seen.setdefault(index, []).append(image)
        repeated = [images for images in seen.values() if len(images) > 1]
        assert repeated
        assert all(torch.equal(images[0], image) for images in repeated for image in images) == fixed


def test_paths_of_streams_start_from_the_image_root(
    tmp_path: Path, vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "photos", ["1.jpg"])
    values = streams("NLVR_pretrain", tmp_path, vocabulary)
    values["train_file"] = [str(write_lines(tmp_path / "a", [{"image_rpath": "1.jpg", "caption": "a man"}]))]
    values["images"] = {**values["images"], "is_image_rpath": True, "image_key": "image_rpath"}
    data: Any = DATA["NLVR_pretrain"]({**values, "image_root": str(tmp_path / "photos")})
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 64, 64)
    with pytest.raises(DataError, match=r"1\.jpg: no such file"):
        DATA["NLVR_pretrain"]({**values, "image_root": ""})
    monkeypatch.chdir(tmp_path / "photos")
    DATA["NLVR_pretrain"]({**values, "image_root": ""})


def test_a_vocabulary_that_is_too_large_is_refused(tmp_path: Path, vocabulary: str) -> None:
    small = {"vocab_size": 5, "max_position_embeddings": 512}
    for script, values in (("NLVR", config), ("Pretrain", streams)):
        with pytest.raises(ValueError, match="text_config: vocab_size is 5"):
            DATA[script](values(script, tmp_path, vocabulary, text_config=small))


def test_rows_of_streams_are_what_the_file_says(tmp_path: Path, vocabulary: str) -> None:
    values = streams("NLVR_pretrain", tmp_path, vocabulary)
    data: Any = DATA["NLVR_pretrain"](values)
    lines = Path(values["train_file"][0]).read_bytes()
    for batch in data.train_dataloader():
        for index in batch["index"]:
            assert json.loads(lines[index:].split(b"\n")[0])["caption"] == LONG
