"""The records of every official layout: all that either format is made from."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.data.raw import write
from vlp.data.conversion.skips import Skips
from vlp.data.raw.karpathy import read_coco, read_f30k
from vlp.data.raw.lazy import LazyRecords, Record, Records
from vlp.data.raw.nlvr2 import read_nlvr2
from vlp.data.raw.records import (
    CaptionedImage,
    Entailment,
    EntailmentImage,
    Question,
    QuestionedImage,
    Region,
    RegionImage,
    Statement,
    StatementPair,
)
from vlp.data.raw.snli import read_snli
from vlp.data.raw.source import Source
from vlp.data.raw.vg import read_vg
from vlp.data.raw.vqa import join_images, read_annotations, read_questions
from vlp.data.raw.web import read_gcc, read_sbu


def read_all(records: Records[Record]) -> list[Record]:
    """All records of a split of which none is left out, ordered by what they are printed as."""
    skips = Skips()
    result = sorted(records.read(skips), key=repr)
    assert not skips and len(records) == len(result)
    return result


def json_lines(*entries: object) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def test_coco(tmp_path: Path) -> None:
    images = [
        {
            "filename": "COCO_train2014_1.jpg",
            "split": "train",
            "sentences": [{"raw": "A cat. "}, {"raw": "A black cat"}],
        },
        {"filename": "COCO_val2014_2.jpg", "split": "restval", "sentences": [{"raw": " "}, {"raw": "Two dogs"}]},
    ]
    write(tmp_path / "karpathy/dataset_coco.json", json.dumps({"images": images}))
    train, val = tmp_path / "train2014/COCO_train2014_1.jpg", tmp_path / "val2014/COCO_val2014_2.jpg"
    for path in (train, val):
        write(path, b"")  # an image is not looked at before it is needed
    splits = read_coco(Source(tmp_path, seed=0))
    assert {split: read_all(records) for split, records in splits.items()} == {
        "train": [CaptionedImage(train, ["A cat. ", "A black cat"], "COCO_train2014_1.jpg", "train")],
        "val": [],
        "restval": [CaptionedImage(val, ["Two dogs"], "COCO_val2014_2.jpg", "restval")],
        "test": [],
    }


def test_flickr30k(tmp_path: Path) -> None:
    images = [{"filename": "36979.jpg", "split": "test", "sentences": [{"raw": "A man."}]}]
    write(tmp_path / "karpathy/dataset_flickr30k.json", json.dumps({"images": images}))
    write(tmp_path / "flickr30k-images/36979.jpg", b"")
    splits = read_f30k(Source(tmp_path, seed=0))
    assert list(splits) == ["train", "val", "test"]
    expected = CaptionedImage(tmp_path / "flickr30k-images/36979.jpg", ["A man."], "36979.jpg", "test")
    assert read_all(splits["test"]) == [expected]


def test_visual_genome(tmp_path: Path) -> None:
    """Regions of an image from two places of the file, in file order."""

    def region(image: int, phrase: str, x: int, y: int, width: int, height: int) -> dict[str, object]:
        return {"image_id": image, "phrase": phrase, "x": x, "y": y, "width": width, "height": height}

    entries = [
        {"regions": [region(1, "a red kite", 1, 2, 30, 40), region(1, " ", 0, 0, 1, 1)]},
        {"regions": [region(2, "wet sand", -3, 5, 7, 9)]},
        {"regions": [region(1, "the sky", 0, 0, 640, 200)]},
    ]
    write(tmp_path / "annotations/region_descriptions.json", json.dumps(entries))
    first, second = tmp_path / "images/VG_100K/1.jpg", tmp_path / "images/VG_100K_2/2.jpg"
    write(first, b"")
    write(second, b"")
    source = Source(tmp_path, seed=0)
    assert read_all(read_vg(source)) == [
        RegionImage(
            first,
            "1",
            (Region("a red kite", x=1, y=2, width=30, height=40), Region("the sky", x=0, y=0, width=640, height=200)),
        ),
        RegionImage(second, "2", (Region("wet sand", x=-3, y=5, width=7, height=9),)),
    ]
    assert source.skips == {"empty caption": {"count": 1, "examples": ["region of image 1"]}}


def test_web_pairs_are_joined_on_the_name(tmp_path: Path) -> None:
    write(
        tmp_path / "train_annot.json", json.dumps([["cc/1/a.jpg", "a caption"], ["b.jpg", "another"], ["c.jpg", "x"]])
    )
    write(tmp_path / "images_train/0007/b.jpg", b"")
    write(tmp_path / "images_train/0001/a.jpg", b"")
    source = Source(tmp_path, seed=0)
    splits = read_gcc(source)
    assert {split: read_all(records) for split, records in splits.items()} == {
        "train": [
            CaptionedImage(tmp_path / "images_train/0001/a.jpg", ["a caption"], "a.jpg", "train"),
            CaptionedImage(tmp_path / "images_train/0007/b.jpg", ["another"], "b.jpg", "train"),
        ]
    }
    assert source.skips == {"annotation without image": {"count": 1, "examples": ["c.jpg"]}}
    assert list(source.not_written) == ["val"] and source.layout == "official"


def test_web_pairs_that_img2dataset_loaded(tmp_path: Path) -> None:
    """The caption is read with its image, so one without is found out then."""
    for name, metadata in (("000000000", {"caption": "a beach"}), ("000000001", {"caption": None})):
        write(tmp_path / f"00000/{name}.jpg", b"")
        write(tmp_path / f"00000/{name}.json", json.dumps(metadata))
    source, skips = Source(tmp_path, seed=0), Skips()
    records = read_sbu(source)["train"]
    expected = CaptionedImage(tmp_path / "00000/000000000.jpg", ["a beach"], "000000000.jpg", "train")
    assert len(records) == 2 and list(records.read(skips)) == [expected]
    assert skips == {"empty caption": {"count": 1, "examples": [str(tmp_path / "00000/000000001.jpg")]}}
    assert source.layout == "img2dataset"


def test_nlvr2(tmp_path: Path) -> None:
    train = {"identifier": "train-4-0-0", "sentence": "Both are red.", "label": "True", "directory": 17}
    late = {"identifier": "train-4-0-1", "sentence": "One is blue.", "label": "False", "directory": 17}
    dev = {"identifier": "dev-8-2-0", "sentence": "There are two dogs.", "label": "False"}
    write(tmp_path / "nlvr2/data/train.json", json_lines(train, {**train, "identifier": "train-5-1-0"}, late))
    write(tmp_path / "nlvr2/data/balanced/balanced_dev.json", json_lines(dev))
    splits = read_nlvr2(Source(tmp_path, seed=0))
    assert list(splits) == ["train", "balanced_dev"]
    folder = tmp_path / "images/train/17"
    first, second = splits["train"].read(Skips())  # in file order
    assert first == StatementPair(
        folder / "train-4-0-img0.png",
        folder / "train-4-0-img1.png",
        "train-4-0",
        "train",
        [Statement("Both are red.", "True"), Statement("One is blue.", "False")],
    )
    assert second.pair_id == "train-5-1"
    (pair,) = read_all(splits["balanced_dev"])
    assert (pair.left, pair.right) == tuple(tmp_path / f"dev/dev-8-2-img{side}.png" for side in (0, 1))
    assert pair.statements == [Statement("There are two dogs.", "False")]


def test_snli_ve(tmp_path: Path) -> None:
    line = {"Flickr30K_ID": "36979", "sentence1": "A man.", "sentence2": "A person. ", "gold_label": "entailment"}
    unsure, other = {**line, "gold_label": "-"}, {**line, "sentence2": "A dog.", "gold_label": "contradiction"}
    write(tmp_path / "snli_ve_dev.jsonl", json_lines(line, unsure, other))
    source = Source(tmp_path, seed=0)
    splits = read_snli(source)
    assert list(splits) == ["dev"]
    entailments = [Entailment("A man.", "A person. ", "entailment"), Entailment("A man.", "A dog.", "contradiction")]
    expected = EntailmentImage(tmp_path / "Flickr30K/images/36979.jpg", "36979", "dev", entailments)
    assert read_all(splits["dev"]) == [expected]
    assert source.skips == {"gold label '-'": {"count": 1, "examples": ["snli_ve_dev.jsonl, line 2"]}}


def test_vqa(tmp_path: Path) -> None:
    """All ten answers of every annotated question, as the annotators gave them; a test split has none."""
    given = ["Blue", *["blue"] * 7, "navy", "blue."]
    questions = [{"image_id": 9, "question_id": n, "question": f"What is {n}?"} for n in (90, 91, 92)]
    annotations = [
        {"question_id": n, "multiple_choice_answer": "blue", "answers": [{"answer": answer} for answer in given]}
        for n in (91, 90)
    ]
    write(tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json", json.dumps({"questions": questions}))
    write(tmp_path / "v2_mscoco_val2014_annotations.json", json.dumps({"annotations": annotations}))
    write(tmp_path / "val2014/COCO_val2014_000000000009.jpg", b"")
    source = Source(tmp_path, seed=0)
    read = read_annotations(source, "val")
    assert list(read) == [91, 90] and read[91].multiple_choice_answer == "blue"
    (image,) = read_all(join_images(source, "val", read_questions(source, "val", read)))
    assert image == QuestionedImage(
        tmp_path / "val2014/COCO_val2014_000000000009.jpg",
        9,
        "val",
        [Question(90, "What is 90?", tuple(given)), Question(91, "What is 91?", tuple(given))],
    )
    assert source.skips == {"question of val without annotation": {"count": 1, "examples": ["92"]}}

    write(tmp_path / "val2014/own_9.jpg", b"")  # the questions belong to one of the two
    source = Source(tmp_path, seed=0)
    assert len(join_images(source, "val", read_questions(source, "val", read))) == 1
    assert source.skips["second image of the same number"]["count"] == 1

    write(tmp_path / "v2_OpenEnded_mscoco_test2015_questions.json", json.dumps({"questions": questions[:1]}))
    write(tmp_path / "test2015/COCO_test2015_000000000009.jpg", b"")
    (image,) = read_all(join_images(source, "test", read_questions(source, "test")))
    assert image.questions == [Question(90, "What is 90?", ())]


def test_records_are_built_when_they_are_read() -> None:
    built: list[int] = []

    def build(number: int, skips: Skips) -> int | None:
        built.append(number)
        if number == 5:
            skips.add("odd", "five")
            return None
        return 10 * number

    part, skips = LazyRecords(range(8), build)[4:7], Skips()
    reading = part.read(skips)
    assert len(part) == 3 and not built
    assert next(reading) == 40 and built == [4]
    assert list(reading) == [60] and built == [4, 5, 6]
    assert skips == {"odd": {"count": 1, "examples": ["five"]}}
