"""Bad captions, images, tables and teachers, as a user of the launcher meets them."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from tests.launch.launcher import LOSSES, OTHERS_SLOW, SHARED_CODE, VILT_ALONE, Launcher, Result
from tests.launch.test_refusals import refused
from tests.tokenizers import save_text_files
from tests.unit.data.raw import image_bytes, read_table, write, write_table
from vlp.data.arrow.__main__ import main as check_tables
from vlp.data.arrow.convert import make_arrow
from vlp.data.arrow.datasets import build_dataset
from vlp.data.arrow.mixed import MixedDataset
from vlp.data.arrow.writer import CAPTION
from vlp.data.samplers import ResumableDistributedSampler
from vlp.data.transforms import build_transform

Rows = list[dict[str, Any]]
TRAIN = "coco_caption_karpathy_train.arrow"


@pytest.fixture
def rows(launcher: Launcher) -> Rows:
    """The rows of the training table."""
    return read_table(launcher.data / "arrow" / TRAIN)


@pytest.fixture
def arrow(launcher: Launcher, tmp_path: Path) -> Iterator[Path]:
    """A copy of the tables, without a manifest."""
    for path in (launcher.data / "arrow").glob("*.arrow"):
        shutil.copy(path, tmp_path)
    write_table(tmp_path / TRAIN.replace("train", "restval"), [], CAPTION)
    yield tmp_path
    shutil.rmtree(tmp_path)


def stopped(run: Result, message: str) -> None:
    """A run that had begun ends with status 1 and one line about it."""
    assert run.status == 1, run.output
    assert "Traceback" not in run.output
    (line,) = [line for line in run.output.splitlines() if line.startswith("error: ")]
    assert re.search(message, line), line


# Captions ------------------------------------------------------------------------------------------------

CAPTIONS = [
    *("", "dog", "a red circle " * 100, "<mask> </s>", "<s><pad><unk>", "[MASK] [SEP]", " ", "\n\t", "日本 \u0000 🐶"),
]
# How many of them hold no word to mask: to BERT's tokenizer spaces are nothing, and signs it never saw [UNK].
EMPTY = {"meter": 1, "vilt": 4}


def test_each_odd_caption_alone_goes_through_a_whole_epic_step(launcher: Launcher, rows: Rows, arrow: Path) -> None:
    """An empty one leaves nothing to mask."""
    run = odd_captions(1, launcher, rows, arrow)
    for tag in ("epic/train/epic_itc", "epic/train/epic_gen"):
        assert run.values(tag).count(0.0) == EMPTY[launcher.name], tag


@OTHERS_SLOW
def test_odd_captions_together_go_through_a_whole_epic_step(launcher: Launcher, rows: Rows, arrow: Path) -> None:
    """In fours, where the last batch of an epoch is of one."""
    odd_captions(4, launcher, rows, arrow)


def odd_captions(batch: int, launcher: Launcher, rows: Rows, arrow: Path) -> Result:
    """An epoch whose losses and weights are finite; a row whose list of captions is empty takes no part."""
    odd = [{**rows[i], "caption": [text]} for i, text in enumerate(CAPTIONS)]
    write_table(arrow / TRAIN, [{**rows[0], "caption": []}, *odd], CAPTION)
    steps = -(-len(CAPTIONS) // batch)
    run = launcher.pretrain(
        *(f"data_root={arrow}", *launcher.teacher, f"max_steps={steps}"),
        *(f"per_gpu_batchsize={batch}", f"batch_size={batch}", "datasets=['coco']"),
    )
    for tag in (*LOSSES[launcher.name], "epic/train/epic_itc", "epic/train/epic_gen"):
        assert len(run.values(tag)) == steps and all(math.isfinite(value) for value in run.values(tag)), tag
    assert len(run.values("itm/train/accuracy")) == steps
    alone = "[notice] without a row, so that the others alone are trained on: coco_caption_karpathy_restval"
    assert alone in run.output
    state = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    assert all(bool(value.isfinite().all()) for value in state.values() if value.is_floating_point())
    return run


@SHARED_CODE
@pytest.mark.parametrize("script", ["run.py", "epic_saliency_cache.py"])
def test_a_vocabulary_without_the_words_of_the_captions(
    script: str, launcher: Launcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tables are named, three captions are shown with what becomes of them, and ``check`` says the same."""
    save_text_files(tmp_path / "model", 128, 256)
    cache = (*launcher.teacher, f"saliency_cache={tmp_path / 'cache'}") if "cache" in script else ()
    items = launcher.items(f"tokenizer={tmp_path / 'model'}", "vocab_size=48", *cache)
    run = launcher.run(*launcher.pretraining, *items, script=script, check=False)
    refused(run, f"error: {TRAIN}, coco_caption_karpathy_restval.arrow: of 64 texts 100% of the tokens are [UNK]: ", 1)
    said = run.output.splitlines()[-1]
    assert f"the vocabulary of {tmp_path / 'model'} does not fit the texts" in said
    assert said.count(" becomes '[UNK] [UNK] [UNK]") == 3

    tables = str(launcher.data / "arrow")
    assert check_tables(["check", tables, "--tokenizer", str(tmp_path / "model")]) == 1
    found = capsys.readouterr().out
    assert f"{tables}/{TRAIN}: of " in found and said[said.index("100% of the tokens") :] in found


@SHARED_CODE
@pytest.mark.parametrize(("ratio", "share"), [("0", 0.0), ("1", 1.0)])
def test_the_ends_of_the_mask_ratio(ratio: str, share: float, launcher: Launcher) -> None:
    run = launcher.pretrain(*launcher.teacher, f"epic.mask_ratio={ratio}", "max_steps=2", "warmup_steps=0")
    assert run.values("epic/train/epic_masked_share") == [share, share]
    assert all(value > 0 for value in run.values("epic/train/epic_itc"))
    assert all((value > 0) == (share > 0) for value in run.values("epic/train/epic_gen"))
    assert all(math.isfinite(value) for value in run.values("epic/train/epic_gen"))


# Names ----------------------------------------------------------------------------------------------------


def renamed_raw(source: Path, target: Path) -> None:
    """A copy of COCO's raw layout whose images have names as Flickr gives them, in the same order."""
    content = json.loads((source / "karpathy" / "dataset_coco.json").read_text())
    names = {}
    for number, image in enumerate(content["images"]):
        old = image["filename"]
        image["filename"] = names[old] = f"{1000092795 + number}_{hashlib.md5(old.encode()).hexdigest()[:10]}.jpg"
    for folder in ("train2014", "val2014"):
        (target / folder).mkdir(parents=True)
        for path in (source / folder).iterdir():
            shutil.copy(path, target / folder / names[path.name])
    write(target / "karpathy" / "dataset_coco.json", json.dumps(content))


@OTHERS_SLOW
def test_zero_shot_retrieval_of_images_of_any_name(launcher: Launcher, vanilla: Result, tmp_path: Path) -> None:
    """The recalls are those of the same images under COCO's names."""
    renamed_raw(launcher.data / "raw", tmp_path / "raw")
    make_arrow("coco", tmp_path / "raw", tmp_path / "arrow", quiet=True)
    found, expected = (
        json.loads((launcher.retrieve(vanilla.checkpoint, *items).directory / "results.json").read_text())["metrics"]
        for items in ((f"data_root={tmp_path / 'arrow'}",), ())
    )
    names = [name for name in expected if name.startswith("recalls/")]
    assert len(names) == 6 and [found[name] for name in names] == [expected[name] for name in names]


# Images --------------------------------------------------------------------------------------------------


def truncated(rows: Rows, count: int) -> Rows:
    """``count`` images in a row cut in the middle; the first row is left."""
    return [
        {**row, "image": row["image"][: len(row["image"]) // 2]} if 1 <= i <= count else row
        for i, row in enumerate(rows)
    ]


@SHARED_CODE
def test_skipped_images_are_counted_and_shown(launcher: Launcher, rows: Rows, arrow: Path) -> None:
    write_table(arrow / TRAIN, truncated(rows, 3), CAPTION)
    run = launcher.pretrain(f"data_root={arrow}")
    shown = [int(value) for value in run.values("data/skipped/coco")]
    assert len(shown) == 3 and shown == sorted(shown)

    # The same samples, read by hand.
    dataset = build_dataset("coco", "train", arrow, [build_transform("clip", 64)], draw_false_image=1)
    mixed, order = MixedDataset([dataset], itm=True), list(ResumableDistributedSampler(dataset, seed=0))
    counts = []
    for step in range(3):
        mixed.__getitems__(order[8 * step : 8 * step + 8])
        counts.append((dataset.guard.failures, dataset.guard.reads))
    assert shown == [failures for failures, _ in counts] and shown[-1] > 0
    failures, reads = counts[-1]
    assert f"skipped {failures} of {reads} images (coco): they could not be read" in run.output
    assert re.search(rf"step 3/3 .* left · {failures} images skipped\n", run.output)
    assert re.search(rf"{TRAIN}, row [123] \(COCO_.*truncated", run.output)  # each is named


@VILT_ALONE
def test_images_too_thin_for_a_patch_are_skipped(launcher: Launcher, rows: Rows, arrow: Path) -> None:
    """ViLT keeps the shape of an image, and cuts its sides to multiples of 32 pixels."""
    thin = [{**row, "image": image_bytes(1, size=(76, 4))} if 1 <= i <= 3 else row for i, row in enumerate(rows)]
    write_table(arrow / TRAIN, thin, CAPTION)
    run = launcher.pretrain(f"data_root={arrow}")
    assert run.values("data/skipped/coco")[-1] > 0
    assert re.search(rf"{TRAIN}, row [123] \(COCO_.*an image of 76 x 4 is too thin for image_size=64", run.output)


def test_nothing_is_said_where_nothing_was_skipped(vanilla: Result) -> None:
    assert "skipped" not in vanilla.output
    assert not any(tag.startswith("data/") for line in vanilla.metrics for tag in line)


@SHARED_CODE
def test_broken_images_beyond_the_limit_stop_the_run(launcher: Launcher, rows: Rows, arrow: Path) -> None:
    """In a loader worker, whose traceback nobody wants to read."""
    write_table(arrow / TRAIN, truncated(rows, len(rows)), CAPTION)
    run = launcher.pretrain(f"data_root={arrow}", "num_workers=2", check=False)
    stopped(run, rf"dataset coco \(train\): .*{TRAIN}, row \d+ \(COCO_.*20 images in a row failed.*arrow check")
    assert len(run.output.splitlines()) < 40


@SHARED_CODE
def test_a_broken_image_stops_an_evaluation(launcher: Launcher, arrow: Path) -> None:
    name = TRAIN.replace("train", "test")
    test = read_table(arrow / name)
    test[5]["image"] = b""
    write_table(arrow / name, test, CAPTION)
    run = launcher.pretrain(f"data_root={arrow}", "num_workers=2", "val_check_interval=3", check=False)
    stopped(run, rf"dataset coco \(val\): .*{name}, row 5 .*zero bytes; an evaluation must see every sample")


# Tables --------------------------------------------------------------------------------------------------


def no_images(path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "image"} for row in read_table(path)]
    write_table(path, rows, CAPTION.remove(CAPTION.get_field_index("image")))


def other_captions(path: Path) -> None:
    rows = [{**row, "caption": [7]} for row in read_table(path)]
    schema = CAPTION.set(CAPTION.get_field_index("caption"), pa.field("caption", pa.list_(pa.int64())))
    write_table(path, rows, schema)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (Path.unlink, rf"lacks 1 of 2 tables: .*{TRAIN}; write them with: python -m vlp\.data\.arrow coco"),
    "half": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        rf"{TRAIN} is not a complete Arrow file",
    ),
    "without images": (no_images, rf"{TRAIN} has no column 'image' \(it has caption, image_id, split\)"),
    "without rows": (
        lambda path: write_table(path, [], CAPTION),
        rf"dataset coco \(train\) is empty: not one sample in {TRAIN}, ",
    ),
    "without captions": (
        lambda path: write_table(path, [{**row, "caption": []} for row in read_table(path)], CAPTION),
        rf"{TRAIN} has 24 rows and not one text in their 'caption'",
    ),
    "other captions": (other_captions, rf"{TRAIN}: column 'caption' is of type list<item: int64>, not list<.*string>"),
}


@SHARED_CODE
@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_tables_are_refused_before_anything_runs(what: str, launcher: Launcher, arrow: Path) -> None:
    damage, message = DAMAGE[what]
    damage(arrow / TRAIN)
    run = launcher.pretrain(f"data_root={arrow}", check=False)
    refused(run, "error: ", status=1)
    stopped(run, message)


@SHARED_CODE
@pytest.mark.parametrize("column", ["image", "caption"])
def test_a_flipped_bit_stops_the_run(column: str, launcher: Launcher, rows: Rows, tmp_path: Path) -> None:
    """In the middle of an image that a loader worker reads, and in a caption."""
    arrow = tmp_path / "arrow"
    shutil.copytree(launcher.data / "arrow", arrow)
    data = bytearray((arrow / TRAIN).read_bytes())
    for row in rows:
        value = row["image"] if column == "image" else row["caption"][0].encode()
        data[data.index(value) + len(value) // 2] ^= 1
    (arrow / TRAIN).write_bytes(data)
    run = launcher.pretrain(f"data_root={arrow}", "num_workers=2", check=False)
    where = r", row \d+ \(COCO_.*\): image" if column == "image" else ""
    stopped(run, rf"{TRAIN}{where} is not as it was converted: .*checksum.* differs; copy {TRAIN} anew or convert")


@SHARED_CODE
def test_an_evaluation_of_nothing_is_refused(launcher: Launcher, vanilla: Result, arrow: Path) -> None:
    name = TRAIN.replace("train", "test")
    write_table(arrow / name, [], CAPTION)
    run = launcher.retrieve(vanilla.checkpoint, f"data_root={arrow}", check=False)
    stopped(run, rf"dataset coco \(test\) is empty: not one sample in {name}")


# Teachers ------------------------------------------------------------------------------------------------


def other_teacher(vanilla: Result, folder: Path, **changes: Any) -> Path:
    """The vanilla run's checkpoint with another config inside."""
    checkpoint = torch.load(vanilla.checkpoint, weights_only=True)
    checkpoint["hyper_parameters"]["config"].update(changes)
    torch.save(checkpoint, folder / "teacher.ckpt")
    return folder / "teacher.ckpt"


@SHARED_CODE
def test_a_teacher_with_too_few_fusion_layers(launcher: Launcher, vanilla: Result, tmp_path: Path) -> None:
    path = other_teacher(vanilla, tmp_path, num_top_layer=1)
    run = launcher.pretrain("epic", f"teacher_path={path}", check=False)
    refused(run, "error: ", status=1)
    stopped(run, r"epic\.saliency_layer=-2: .*teacher\.ckpt has 1 fusion layers")


@SHARED_CODE
def test_a_teacher_with_another_tokenizer(launcher: Launcher, vanilla: Result, tmp_path: Path) -> None:
    """The same number of tokens, two of them exchanged: no shape would tell."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(launcher.language_model, folder)
    for name in ("vocab.json", "merges.txt", "SHA256SUMS"):
        (folder / name).unlink()
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    path = other_teacher(vanilla, tmp_path, tokenizer=str(folder))
    run = launcher.pretrain("epic", f"teacher_path={path}", check=False)
    refused(run, "error: ", status=1)
    stopped(run, rf"teacher\.ckpt has tokenizer={folder}, this run .*: other token ids")


@SHARED_CODE
def test_a_teacher_whose_tokenizer_is_elsewhere_now(launcher: Launcher, vanilla: Result, tmp_path: Path) -> None:
    path = other_teacher(vanilla, tmp_path, tokenizer="/gone/roberta-tiny")
    run = launcher.pretrain("epic", f"teacher_path={path}", "max_steps=1")
    assert re.search(
        rf"teacher\.ckpt has tokenizer=/gone/roberta-tiny, .* {launcher.language_model}$", run.output, re.M
    )
