"""Raw downloads, and the commands that read or write tables, weights and language models."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

from tests.hostile.groups import BENCHMARK, FIT, LISTS, OUTPUT, RAW, TABLES
from tests.hostile.table import Case, Row
from tests.unit.data.raw import coco, image_bytes, write, write_coco
from vlp.data.arrow.convert import convert

ANNOTATION = "raw/karpathy/dataset_coco.json"
IMAGE = "raw/train2014/COCO_train2014_{:012d}.jpg"
TO_ARROW = "-m vlp.data.arrow coco --root {place}/raw --output {place}/arrow"


def case(
    group: str, name: str, make: Callable[[Path], object], line: str, status: int, *words: str, written: str = ""
) -> Case:
    return Case(name, Row(group, line, status, words), make, written)


TO_LISTS = "-m vlp.data.json convert {dataset} --root {{place}}/raw --output {{place}}/data"


def good(place: Path) -> None:
    write_coco(place / "raw", coco())


def annotation(place: Path, content: str | bytes) -> None:
    good(place)
    write(place / ANNOTATION, content)


def entry(name: str, text: object, split: str = "train") -> dict[str, object]:
    return {"filename": name, "split": split, "sentences": [{"raw": text}]}


def entries(place: Path, *of: dict[str, object]) -> None:
    annotation(place, json.dumps({"images": of}))


def first(number: int) -> str:
    return Path(IMAGE.format(number)).name


def twice(place: Path) -> None:
    entries(place, entry(first(0), "a dog"), entry(first(1), "a cat"), entry(first(0), "the same dog"))


def two_splits(place: Path) -> None:
    entries(place, entry(first(0), "a dog"), entry(first(0), "a dog", "test"))


def special_files(place: Path) -> None:
    good(place)
    for number in (0, 1, 2):
        (place / IMAGE.format(number)).unlink()
    os.mkfifo(place / IMAGE.format(0))
    (place / IMAGE.format(1)).symlink_to("/dev/zero")
    here = os.getcwd()
    os.chdir((place / IMAGE.format(2)).parent)  # a socket's name is short
    socket.socket(socket.AF_UNIX).bind(first(2))
    os.chdir(here)


def fifo_annotation(place: Path) -> None:
    good(place)
    (place / ANNOTATION).unlink()
    os.mkfifo(place / ANNOTATION)


def extreme(place: Path) -> None:
    good(place)
    write(place / IMAGE.format(0), image_bytes(size=(1, 20_000)))
    write(place / IMAGE.format(1), b"not an image")


def output_file(place: Path) -> None:
    good(place)
    write(place / "arrow", "precious")


LEFT = "arrow"  # what a conversion that ends well writes
RAW_CASES = [
    case(RAW, "the same file name twice", twice, TO_ARROW, 0, "1 annotations joined with an earlier one", written=LEFT),
    case(RAW, "an image in two splits", two_splits, TO_ARROW, 1, f"{first(0)} is in split train", "and in split test"),
    case(
        RAW,
        "a lone surrogate",
        lambda place: entries(place, entry(first(0), "a \ud83d dog")),
        TO_ARROW,
        0,
        "lone surrogate in a text, replaced by U+FFFD: 1",
        written=LEFT,
    ),
    case(RAW, "a caption of another type", lambda place: entries(place, entry(first(0), 7)), TO_ARROW, 1, ANNOTATION),
    case(RAW, "deep JSON", lambda place: annotation(place, "[" * 200_000), TO_ARROW, 1, ANNOTATION, "nested too deep"),
    case(RAW, "JSON cut off", lambda place: annotation(place, '{"images": ['), TO_ARROW, 1, "is not valid JSON"),
    case(RAW, "no UTF-8", lambda place: annotation(place, b'{"images": "\xff"}'), TO_ARROW, 1, ANNOTATION),
    case(RAW, "another JSON", lambda place: annotation(place, '{"pictures": []}'), TO_ARROW, 1, ANNOTATION),
    case(RAW, "a list", lambda place: annotation(place, "[]"), TO_ARROW, 1, ANNOTATION),
    case(RAW, "a FIFO socket or device", special_files, TO_ARROW, 0, "image is no regular file: 3", written=LEFT),
    case(RAW, "an annotation that is a FIFO", fifo_annotation, TO_ARROW, 1, "is not a regular file"),
    case(
        RAW,
        "an extreme shape and no image",
        extreme,
        f"{TO_ARROW} --verify-images",
        0,
        "image does not decode: 2",
        written=LEFT,
    ),
    case(RAW, "no root", lambda place: None, TO_ARROW, 1, "/raw is not a directory"),
    case(RAW, "an unknown data set", good, TO_ARROW.replace("coco", "cooc"), 2, "invalid choice: 'cooc'"),
    case(OUTPUT, "a file", output_file, TO_ARROW, 1, "is or lies in a file, not a folder; name another"),
    case(
        OUTPUT,
        "below a file",
        output_file,
        TO_ARROW.replace("}/arrow", "}/arrow/below"),
        1,
        "is or lies in a file, not a folder; name another",
    ),
    case(OUTPUT, "no place", good, TO_ARROW.replace("{place}/arrow", "/proc/arrow"), 1, "cannot write into --output"),
]


def refcoco(place: Path, references: bytes) -> None:
    """RefCOCO+ of no images and annotations."""
    write(place / "raw/refcoco+/instances.json", json.dumps({"images": [], "annotations": []}))
    write(place / "raw/refcoco+/refs(unc).p", references)


def questions(place: Path, answers: str) -> None:
    """One question of VQA v2 and a file of candidates."""
    question = {"image_id": 1, "question_id": 10, "question": "what?"}
    write(place / "raw/v2_OpenEnded_mscoco_test2015_questions.json", json.dumps({"questions": [question]}))
    write(place / "raw/test2015/COCO_test2015_000000000001.jpg", image_bytes())
    write(place / "answers.json", answers)


RUNS = b"cos\nsystem\n(S'touch made'\ntR."  # a pickle that runs a command
FOR_REFCOCO, FOR_COCO, FOR_VQA = (TO_LISTS.format(dataset=name) for name in ("refcoco+", "coco", "vqa"))
FOR_BOXES = FOR_COCO.replace(".json convert coco", ".jsonl convert coco_objs_rm_leak")
WRITTEN = "data"
LIST_CASES = [
    case(
        RAW, "lists of an odd image", extreme, f"{FOR_COCO} --verify-images", 0, "does not decode: 4", written=WRITTEN
    ),
    case(RAW, "lists of cut JSON", lambda place: annotation(place, '{"images": ['), FOR_COCO, 1, "is not valid JSON"),
    case(RAW, "a pickle that runs", lambda place: refcoco(place, RUNS), FOR_REFCOCO, 1, "refs(unc).p holds more than"),
    case(RAW, "a cut pickle", lambda place: refcoco(place, b"]}(V"), FOR_REFCOCO, 1, "refs(unc).p is no whole pickle"),
    case(RAW, "no references", lambda place: refcoco(place, b"]."), FOR_REFCOCO, 1, "not one item could be written"),
    case(RAW, "RefCOCO's images not kept out", good, FOR_BOXES, 1, "add --exclude and the folder of refcoco+"),
    case(
        RAW,
        "a pickle that runs, to be kept out",
        lambda place: refcoco(place, RUNS),
        f"{FOR_BOXES} --exclude {{place}}/raw",
        1,
        "refs(unc).p holds more than",
    ),
    case(
        RAW,
        "a candidate twice",
        lambda place: questions(place, '["a", "a"]'),
        f"{FOR_VQA} --answer-list {{place}}/answers.json",
        1,
        "answers.json holds 'a' twice",
    ),
    case(RAW, "an unknown data set of lists", good, TO_LISTS.format(dataset="cooc"), 2, "invalid choice: 'cooc'"),
    case(OUTPUT, "no place for lists", good, FOR_COCO.replace("{place}/data", "/proc/x"), 1, "cannot write into"),
    case(
        OUTPUT,
        "images elsewhere",
        good,
        f"{FOR_COCO} --image-root {{place}}/data",
        1,
        "does not lie in --image-root",
    ),
]


def rows(place: Path, content: str) -> None:
    write(place / "list.json", content)
    write(place / "a.jpg", image_bytes())


CHECK_LIST = "-m vlp.data.json check --lists {place}/list.json"
GOOD = '{"image": "a.jpg", "caption": "a cat"}'
CHECK_CASES = [
    case(LISTS, "whole", lambda place: rows(place, f"[{GOOD}]"), CHECK_LIST, 0, "all rows are well formed"),
    case(LISTS, "not there", lambda place: None, CHECK_LIST, 1, "list.json not found"),
    case(LISTS, "empty", lambda place: rows(place, "[]"), CHECK_LIST, 1, "list.json is an empty list"),
    case(LISTS, "cut", lambda place: rows(place, f"[{GOOD}, {{"), CHECK_LIST, 1, "list.json: row 1 is not valid JSON"),
    case(
        LISTS,
        "malformed",
        lambda place: rows(place, f'[{GOOD}, {{"image": 5, "caption": ""}}, 7]'),
        CHECK_LIST,
        1,
        "row 1: 'image' must be a string",
        "row 2: is number, not an object",
    ),
    case(
        LISTS,
        "lost image",
        lambda place: rows(place, f"[{GOOD}]".replace("a.jpg", "lost.jpg")),
        CHECK_LIST,
        1,
        "lost.jpg: no such file",
        "0.0%",
    ),
    case(
        LISTS,
        "outside",
        lambda place: rows(place, f"[{GOOD}]".replace("a.jpg", "/etc/hostname")),
        CHECK_LIST,
        1,
        "row 0: the image '/etc/hostname' lies outside of image_root",
    ),
    case(
        LISTS,
        "no folder of images",
        lambda place: rows(place, f"[{GOOD}]"),
        f"{CHECK_LIST} --image-root {{place}}/none",
        1,
        "no such folder",
    ),
]


def sentences(place: Path) -> None:
    write(place / "captions.txt", "\n".join(f"a cat and dog number {number}" for number in range(40)))


FIT_LM = "-m epic_common.fit_lm --captions {place}/captions.txt --output {place}/lm"
FIT_CASES = [
    case(FIT, "three tokens", sentences, f"{FIT_LM} --vocab-size 3", 2, "vocab_size is 3"),
    case(FIT, "no tokens", sentences, f"{FIT_LM} --vocab-size 0", 2, "vocab_size"),
    case(FIT, "words for a number", sentences, f"{FIT_LM} --steps many", 2, "--steps", "many"),
    case(FIT, "negative steps", sentences, f"{FIT_LM} --steps -1", 2, "steps"),
    case(FIT, "no captions", lambda place: write(place / "captions.txt", ""), FIT_LM, 2, "captions.txt"),
    case(FIT, "no file", lambda place: None, FIT_LM, 2, "captions.txt"),
    case(FIT, "no text", lambda place: write(place / "captions.txt", b"\xff\xfe" * 99), FIT_LM, 2, "captions.txt"),
    case(FIT, "a folder", lambda place: (place / "captions.txt").mkdir(), FIT_LM, 2, "captions.txt"),
]


def tables(place: Path) -> None:
    good(place)
    convert("coco", place / "raw", place / "arrow", quiet=True)


def flipped_table(place: Path) -> None:
    """In an image."""
    tables(place)
    path = place / "arrow/coco_caption_karpathy_test.arrow"
    content = path.read_bytes()
    start = content.index(b"\xff\xd8\xff") + 200
    path.write_bytes(content[:start] + bytes([content[start] ^ 1]) + content[start + 1 :])


CHECK = "-m vlp.data.arrow check {place}/arrow"
MEASURE = "-m benchmarks.input_pipeline"
OTHER_CASES = [
    case(TABLES, "check of whole tables", tables, CHECK, 0, "all tables are complete"),
    case(TABLES, "check of a flipped bit", flipped_table, CHECK, 1, "is not as it was converted: its SHA-256 differs"),
    case(TABLES, "check of what was not converted", tables, f"{CHECK} --datasets vg", 1, "dataset vg is not there"),
    case(TABLES, "check of an unknown data set", tables, f"{CHECK} --datasets cooc", 2, "invalid choice: 'cooc'"),
    case(TABLES, "check of nothing", lambda place: (place / "arrow").mkdir(), CHECK, 1, "holds no Arrow tables"),
    case(TABLES, "check of no folder", lambda place: None, CHECK, 1, "is not a directory"),
    case(
        BENCHMARK, "no images", lambda place: None, f"{MEASURE} --images 0", 2, "'0' is not a whole number of 1 or more"
    ),
    case(BENCHMARK, "minus one worker", lambda place: None, f"{MEASURE} --workers -1", 2, "--workers"),
    case(BENCHMARK, "no size", lambda place: None, f"{MEASURE} --size 0", 2, "'0' is not a whole number of 1 or more"),
    case(BENCHMARK, "no tables", lambda place: None, f"{MEASURE} --data-root {{place}}/arrow", 1, "is not a directory"),
]
