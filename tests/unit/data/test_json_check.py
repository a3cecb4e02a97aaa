"""What ``check`` says of lists, and what a run looks at before it starts."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from scenes.coco_layout import Request, write_coco
from scenes.task_layouts import LAYOUTS, write_tasks
from tests.unit.data.raw import image_bytes, write
from vlp.data.json.__main__ import main
from vlp.data.json.check import ListReport, check_config, check_list
from vlp.data.json.convert import convert
from vlp.data.json.coverage import store_coverage
from vlp.data.json.datamodule import JsonDataModule, Part
from vlp.data.json.dataset import Roots
from vlp.data.json.datasets import PretrainDataset, QuestionTrainDataset, StatementTestDataset
from vlp.data.json.plans import PLANS
from vlp.data.json.transforms import EvalTransform

Item = dict[str, Any]
CAPTION = {"image": "a.jpg", "caption": "a cat"}
QUESTION = {"dataset": "vqa", "image": "a.jpg", "question": "what?", "question_id": 1, "answer": ["cat"]}
STATEMENT = {"images": ["a.jpg", "b.jpg"], "sentence": "two cats", "label": "True"}
ENTAILMENT = {"image": "a", "sentence": "a cat", "label": "neutral"}
EXPRESSION = {"image": "a.jpg", "text": "cat", "ref_id": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes in every layout under ``raw``, and all lists of them under ``data``."""
    folder = tmp_path_factory.mktemp("check")
    write_coco(folder / "scenes", Request(train=40, val=4, test=4, captions=2, image_size=48, seed=3))
    write_tasks(folder / "scenes", folder / "raw", tuple(LAYOUTS))
    (folder / "scenes").rename(folder / "raw/coco")
    for name in PLANS:
        layout = {"vg_qa": "vg", "coco_karpathy": "coco"}.get(name, name)
        convert(name, folder / "raw" / layout, folder / "data", quiet=True)
    return folder


def report(folder: Path, *rows: Any, outside: bool = False, **use: bool) -> ListReport:
    """Check a list of ``rows`` whose images lie in ``folder/images``: a.jpg and b.jpg are there."""
    for name in ("a.jpg", "b.jpg"):
        write(folder / "images" / name, image_bytes())
    write(folder / "list.json", json.dumps(rows))
    folders = dict.fromkeys(("image_root", "vqa_root", "vg_root"), str(folder / "images"))
    return check_list(folder / "list.json", Roots(folders, outside), **use)


def recipes(data: Path) -> dict[str, Item]:
    """The keys of every script's recipe that name data."""
    lists, raw = data / "data", data / "raw"

    def named(*names: str) -> list[str]:
        return [str(lists / f"{name}.json") for name in names]

    return {
        "Retrieval_coco": {
            "train_file": named("coco_train"),
            "val_file": named("coco_val")[0],
            "test_file": named("coco_test")[0],
            "image_root": str(raw / "coco"),
        },
        "VQA": {
            "train_file": named("vqa_train", "vqa_val", "vg_qa"),
            "test_file": named("vqa_test"),
            "answer_list": named("answer_list")[0],
            "vqa_root": str(raw / "vqa"),
            "vg_root": str(raw / "vg"),
        },
        "VE": {
            "train_file": named("ve_train")[0],
            "val_file": named("ve_dev")[0],
            "test_file": named("ve_test")[0],
            "image_root": str(raw / "snli/Flickr30K/images"),
        },
        "NLVR": {
            "train_file": named("nlvr_train"),
            "val_file": named("nlvr_dev"),
            "test_file": named("nlvr_test"),
            "image_root": str(raw / "nlvr2"),
        },
        "Grounding": {
            "train_file": named("refcoco+_train"),
            "test_file": named("refcoco+_val", "refcoco+_test"),
            "refcoco_data": str(lists),
            "det_file": str(lists / "refcoco+/dets.json"),
            "image_root": str(raw / "refcoco+"),
        },
    }


@pytest.mark.parametrize("name", ["Retrieval_coco", "VQA", "VE", "NLVR", "Grounding"])
def test_what_the_converters_write_serves_every_recipe(name: str, data: Path) -> None:
    recipe = recipes(data)[name]
    reports = check_config(recipe)
    assert all(found.well and found.rows for found in reports), reports
    kinds = {Path(found.path).stem: found.kind for found in reports}
    expected = {
        "Retrieval_coco": {
            "coco_train": "retrieval training",
            "coco_val": "retrieval evaluation",
            "coco_test": "retrieval evaluation",
        },
        "VQA": {
            **dict.fromkeys(("vqa_train", "vqa_val", "vg_qa"), "question training"),
            "vqa_test": "question test",
            "answer_list": "candidates",
        },
        "VE": dict.fromkeys(("ve_train", "ve_dev", "ve_test"), "entailment"),
        "NLVR": dict.fromkeys(("nlvr_train", "nlvr_dev", "nlvr_test"), "statement"),
        "Grounding": {
            "refcoco+_train": "grounding training",
            "refcoco+_val": "grounding test",
            "refcoco+_test": "grounding test",
            "refs(unc)": "references",
            "instances": "objects",
            "dets": "proposals",
        },
    }[name]
    assert kinds == expected


def test_pretraining_lists_name_their_images_from_one_folder(data: Path, tmp_path: Path) -> None:
    names = ("coco", "vg", "sbu", "gcc", "cc12m")
    for name in names:
        convert(name, data / "raw" / name, tmp_path, image_root=data / "raw", quiet=True)
    lists = [str(tmp_path / f"{name}.json") for name in ("coco", "vg", "sbu", "cc3m_train", "cc3m_val", "cc12m")]
    reports = check_config({"train_file": lists, "image_root": str(data / "raw")})
    assert [found.kind for found in reports] == ["pre-training"] * 6 and all(found.well for found in reports)


# Rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"image": "a.jpg"}, "is of no known kind"),
        (5, "is of no known kind"),
        (CAPTION | {"caption": 5}, "row 0: 'caption' must be a string or a list"),
        (CAPTION | {"image": ["a.jpg"]}, "row 0: 'image' must be a string"),
        ({"caption": "a cat"}, "row 0: lacks 'image'"),
        (QUESTION | {"dataset": "gqa"}, "row 0: 'dataset' must be 'vqa' or 'vg'"),
        (QUESTION | {"answer": "cat"}, "row 0: 'answer' of dataset vqa must be a list of strings"),
        (QUESTION | {"dataset": "vg"}, "row 0: 'answer' of dataset vg must be one string"),
        (STATEMENT | {"label": True}, "row 0: 'label' must be 'True' or 'False', not the boolean"),
        (STATEMENT | {"images": ["a.jpg"]}, "row 0: 'images' must be a list of two file names"),
        (ENTAILMENT | {"label": 2}, "row 0: 'label' must be 'contradiction' or 'neutral' or 'entailment'"),
        (EXPRESSION | {"ref_id": "3"}, "row 0: 'ref_id' must be an integer"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_row(row: Any, words: str, tmp_path: Path) -> None:
    found = report(tmp_path, row)
    (problem,) = found.problems
    assert problem.startswith(str(tmp_path / "list.json")) and words in problem and not found.well


def test_rows_that_follow_a_malformed_one_are_checked(tmp_path: Path) -> None:
    rows = [CAPTION, {"caption": 1}, CAPTION | {"image": "b.jpg"}, 7, CAPTION | {"image": "lost.jpg"}]
    found = report(tmp_path, *rows)
    assert (found.rows, found.malformed) == (5, 2) and [p.split(": ")[1] for p in found.problems] == ["row 1", "row 3"]
    assert (found.images.looked_at, found.images.missing) == (3, 1) and found.images.share == pytest.approx(2 / 3)
    assert found.images.examples == [f"{tmp_path}/images/lost.jpg: no such file"]


def test_an_id_twice(tmp_path: Path) -> None:
    (problem,) = report(tmp_path, QUESTION, QUESTION | {"question": "who?"}).problems
    assert "row 1: 1 is there already (row 0); each may occur once" in problem
    assert not report(tmp_path, CAPTION, CAPTION).problems
    (problem,) = report(tmp_path, CAPTION | {"caption": ["a"]}, CAPTION | {"caption": ["b"]}, evaluates=True).problems
    assert "row 1: 'a.jpg' is there already (row 0)" in problem


def test_what_a_run_does_with_a_list_decides_what_it_needs(tmp_path: Path) -> None:
    assert not report(tmp_path, CAPTION).problems
    assert "lacks 'image_id'" in report(tmp_path, CAPTION, finetunes=True).problems[0]
    assert "'caption' must be a list" in report(tmp_path, CAPTION, evaluates=True).problems[0]
    assert "lacks 'ref_id'" in report(tmp_path, {"image": "a.jpg", "text": "cat"}, evaluates=True).problems[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "does not hold a JSON list"),
        ("{}", "does not hold a JSON list"),
        ("[]", "is an empty list"),
        ('[{"image": "a.jpg", "caption": "a"}', "row 0 is not followed by"),
        ('[{"image": "a.jpg", "caption": "a"}, {"image"', "row 1 is not valid JSON"),
        ("[" * 200_000, "is nested too deep"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_broken_list_is_one_problem(content: str | bytes, words: str, tmp_path: Path) -> None:
    write(tmp_path / "list.json", content)
    found = check_list(tmp_path / "list.json", Roots({"image_root": ""}))
    (problem,) = found.problems
    assert words in problem and str(tmp_path / "list.json") in problem


# Images ---------------------------------------------------------------------------------------------------------


def test_images_outside_of_the_root(tmp_path: Path) -> None:
    write(tmp_path / "secret.jpg", image_bytes())
    write(tmp_path / "images/a.jpg", image_bytes())
    (tmp_path / "images/link.jpg").symlink_to(tmp_path / "secret.jpg")
    rows = [CAPTION | {"image": name} for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "link.jpg")]
    found = report(tmp_path, *rows)
    assert found.malformed == 2 and found.images.missing == 1
    assert all("lies outside of image_root" in text for text in [*found.problems, *found.images.examples])
    allowed = report(tmp_path, *rows, outside=True)
    assert allowed.well and allowed.images.looked_at == 3


def test_an_image_is_counted_once_and_a_useless_one_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "images/empty.jpg", b"")
    (tmp_path / "images/folder.jpg").mkdir()
    os.mkfifo(tmp_path / "images/fifo.jpg")
    names = ("a.jpg", "empty.jpg", "folder.jpg", "fifo.jpg", "x" * 300)
    found = report(tmp_path, *(CAPTION | {"image": name} for name in names * 3))
    assert (found.rows, found.images.looked_at, found.images.missing) == (15, 5, 4)


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = [str(data / "data" / name) for name in ("vqa_train.json", "vg_qa.json")]
    roots = ["--vqa-root", str(data / "raw/vqa"), "--vg-root", str(data / "raw/vg")]
    assert main(["check", "--lists", *lists, *roots, "--report", str(tmp_path / "report.json")]) == 0
    assert "all rows are well formed and all images are there" in capsys.readouterr().out
    entries = json.loads((tmp_path / "report.json").read_text())["lists"]
    assert [entry["path"] for entry in entries] == lists and all(entry["share"] == 1 for entry in entries)
    assert main(["check", "--lists", lists[0], "--image-root", str(data / "raw/vg")]) == 1
    output = capsys.readouterr().out
    assert "not all is well" in output and re.search(r"problem: \S+COCO_train2014_\d+.jpg: no such file", output)
    assert main(["check", "--lists", lists[0], "--image-root", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.startswith(f"error: image_root={tmp_path / 'absent'}: no such folder")


def test_the_command_reads_a_recipe(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipes(data)["Grounding"]
    write(tmp_path / "Grounding.yaml", "".join(f"{key}: {json.dumps(value)}\n" for key, value in recipe.items()))
    assert main(["check", "--config", str(tmp_path / "Grounding.yaml")]) == 0
    write(tmp_path / "dets.json", '{"7": [[1, 2]]}')
    write(tmp_path / "Grounding.yaml", (tmp_path / "Grounding.yaml").read_text() + "optimizer: {lr: 1e-5}\n")
    text = (tmp_path / "Grounding.yaml").read_text().replace(recipe["det_file"], str(tmp_path / "dets.json"))
    write(tmp_path / "Grounding.yaml", text)
    capsys.readouterr()
    assert main(["check", "--config", str(tmp_path / "Grounding.yaml")]) == 1
    assert "dets.json, image '7': expected {image id:" in capsys.readouterr().out
    assert main(["check", "--config", str(tmp_path / "absent.yaml")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'absent.yaml'}: no such file\n"


# Before a run ---------------------------------------------------------------------------------------------------


def captions(data: Path, lists: list[Path], root: Path) -> PretrainDataset:
    return PretrainDataset(lists, Roots({"image_root": str(root)}), EvalTransform(16))


def stored(folder: Path) -> list[Item]:
    entries: list[Item] = json.loads((folder / "data.json").read_text())["lists"]
    return entries


def test_coverage_is_stored_with_the_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = captions(data, [data / "data/coco.json", data / "data/coco_train.json"], data / "raw/coco")
    test = StatementTestDataset(
        [data / "data/nlvr_dev.json"], Roots({"image_root": str(data / "raw/nlvr2")}), EvalTransform(16)
    )
    store_coverage({"train": train, "val": test}, tmp_path)
    empty = {"missing": 0, "examples": [], "share": 1.0}
    coco = {"published": 566_747, "coverage": 80 / 566_747}
    assert stored(tmp_path) == [
        {"split": "train", "list": str(data / "data/coco.json"), "rows": 80, "looked_at": 80, **empty, **coco},
        {"split": "train", "list": str(data / "data/coco_train.json"), "rows": 80, "looked_at": 80, **empty, **coco},
        {
            **{"split": "val", "list": str(data / "data/nlvr_dev.json"), "rows": 8, "looked_at": 16},
            **{**empty, "published": 6_982, "coverage": 8 / 6_982},
        },
    ]
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("rows", "expected"), [(10, [0, 2, 4, 6, 8]), (5, [0, 1, 2, 3, 4]), (3, [0, 1, 2])])
def test_a_sample_is_spread_over_the_list(rows: int, expected: list[int], tmp_path: Path) -> None:
    write(tmp_path / "list.json", json.dumps([CAPTION | {"image": f"{number}.jpg"} for number in range(rows)]))
    for number in expected:
        write(tmp_path / f"{number}.jpg", image_bytes())
    store_coverage({"train": captions(tmp_path, [tmp_path / "list.json"], tmp_path)}, tmp_path / "run", looked_at=5)
    (entry,) = stored(tmp_path / "run")
    assert (entry["rows"], entry["looked_at"], entry["missing"]) == (rows, min(rows, 5), 0)


def test_missing_images_are_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "list.json", json.dumps([CAPTION, CAPTION | {"image": "lost.jpg"}]))
    write(tmp_path / "a.jpg", image_bytes())
    store_coverage({"train": captions(tmp_path, [tmp_path / "list.json"], tmp_path)}, tmp_path / "run")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"notice: {tmp_path / 'list.json'}: 1 of 2 images that were looked for are missing")
    assert f"({tmp_path / 'lost.jpg'}: no such file)" in line
    (entry,) = stored(tmp_path / "run")
    assert entry["published"] is None and entry["coverage"] is None
    assert entry["share"] == 0.5 and entry["examples"] == [f"{tmp_path / 'lost.jpg'}: no such file"]


def test_questions_are_looked_for_under_the_root_of_their_source(data: Path, tmp_path: Path) -> None:
    lists = [data / "data/vqa_train.json", data / "data/vg_qa.json"]
    roots = Roots({"vqa_root": str(data / "raw/vqa"), "vg_root": str(data / "raw/vg")})
    dataset = QuestionTrainDataset(lists, roots, EvalTransform(16))
    store_coverage({"train": dataset}, tmp_path)
    assert [entry["missing"] for entry in stored(tmp_path)] == [0, 0]
    roots.folders = {"vqa_root": str(data / "raw/vqa"), "vg_root": str(data / "raw/vqa")}
    dataset.roots = [roots.of(path) for path in lists]
    store_coverage({"train": dataset}, tmp_path)
    assert [entry["share"] for entry in stored(tmp_path)] == [1, 0]


class Loaders(JsonDataModule):
    """Of one evaluation split."""

    eval_splits = ("val",)


def test_a_run_stores_it_in_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "list.json", json.dumps([CAPTION]))
    write(tmp_path / "a.jpg", image_bytes())
    dataset = captions(tmp_path, [tmp_path / "list.json"], tmp_path)
    config = {"seed": 0, "num_workers": 0, "output_dir": str(tmp_path / "run")}
    loaders = Loaders(config, None, {"val": Part(dataset, 1, len)})  # type: ignore[arg-type]
    (tmp_path / "run").mkdir()
    loaders.write_report(tmp_path / "run")
    (entry,) = stored(tmp_path / "run")
    assert (entry["split"], entry["looked_at"]) == ("val", 1)
