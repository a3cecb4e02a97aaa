"""What a run goes on from, starts from and writes to, and settings that are hardly meant: through the real launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile.groups import (
    ALONE,
    CONVERT,
    HUB,
    IDENTITY,
    LAST,
    LOGS,
    NOT_FINITE,
    NOTICES,
    PATCHES,
    RESUME,
    START,
    TEACHER,
    WEIGHTS,
)
from tests.hostile.harness import Ended, digests, keeps_its_promise, nothing_changes, pretrained
from tests.hostile.table import Row, each, rows
from tests.launch.launcher import ROOT, Launcher, Result, address
from tests.unit.data.raw import image_bytes, read_table, write_table
from vlp.checkpoint.__main__ import main as checkpoint_command
from vlp.data.arrow.writer import CAPTION

TWO_BATCHES = ("batch_size=16", "val_check_interval=8")


@pytest.fixture(scope="module")
def half(launcher: Launcher) -> Result:
    """Two steps of a run with EPIC."""
    return launcher.pretrain("max_steps=2", *launcher.teacher, *TWO_BATCHES)


CHANGED = rows(
    RESUME,
    1,
    {
        "learning_rate=2e-3": ("learning_rate was 0.001, is 0.002", "resume_anyway=learning_rate"),
        "batch_size=32": "batch_size was 16, is 32",
        "per_gpu_batchsize=4": "per_gpu_batchsize was 8, is 4",
        "epic.mask_ratio=0.4": "epic.mask_ratio was 0.35, is 0.4",
        "epic.itc_weight=4": "epic.itc_weight was 8.0, is 4",
        "epic.enabled=False": "epic.enabled was True, is False",
        "hidden_size=64": "hidden_size was 32, is 64",
        "weight_decay=0.1": "weight_decay was 0.01, is 0.1",
        "seed=1 resume_anyway=seed": "seed was 0, is 1",
        "per_gpu_batchsize=3 resume_anyway=per_gpu_batchsize": "which batches of 3 do not divide",
        "max_steps=1": ("max_steps=1, but resume_from=", "has done 2 steps: give a larger max_steps to go on"),
        "resume_anyway=learning_rat": "did you mean 'learning_rate'",
        "resume_anyway=3": "resume_anyway=3: expected keys or blocks of keys",
        "'resume_anyway=[3]'": "resume_anyway=[3]: expected",
    },
)


@each(CHANGED)
def test_a_changed_configuration(row: Row, launcher: Launcher, half: Result, tmp_path: Path) -> None:
    items = (*launcher.teacher, *TWO_BATCHES, "max_steps=4", f"resume_from={half.checkpoint}", *row.items)
    with nothing_changes(half.log_dir):
        keeps_its_promise(row, pretrained(launcher, tmp_path / "logs", *items))
    assert not (tmp_path / "logs").exists()


def test_a_changed_learning_rate_that_is_listed(launcher: Launcher, half: Result, tmp_path: Path) -> None:
    row = Row(RESUME, "learning_rate=2e-3 resume_anyway=learning_rate", 0, ("learning_rate was 0.001, is 0.002",))
    items = (*launcher.teacher, *TWO_BATCHES, "max_steps=3", f"resume_from={half.checkpoint}", *row.items)
    with nothing_changes(half.log_dir):
        keeps_its_promise(row, pretrained(launcher, tmp_path / "logs", *items))


def broken(half: Result, place: Path, *names: str) -> Path:
    """A copy of the run's log_dir with checkpoints cut off."""
    shutil.copytree(half.log_dir, place)
    for name in names:
        (path,) = place.glob(f"*/version_0/checkpoints/{name}")
        path.write_bytes(path.read_bytes()[:-5000])
    return place


def test_auto_past_a_last_checkpoint_that_is_broken(launcher: Launcher, half: Result, tmp_path: Path) -> None:
    """No other one is there: a new run would bury what the broken one is worth."""
    logs = broken(half, tmp_path / "logs", "last.ckpt")
    for path in logs.glob("*/version_0/checkpoints/epoch*"):
        path.unlink()
    row = Row(LAST, "resume_from=auto", 1, ("none of them whole", "start anew with resume_from=None"))
    with nothing_changes(logs):
        keeps_its_promise(row, pretrained(launcher, logs, *launcher.teacher, *TWO_BATCHES, "max_steps=4", *row.items))


def test_the_newest_whole_checkpoint_takes_its_place(launcher: Launcher, half: Result, tmp_path: Path) -> None:
    logs = broken(half, tmp_path / "logs", "last.ckpt")
    (last,) = logs.glob("*/version_0/checkpoints/last.ckpt")
    shutil.copy(half.checkpoint, last.with_name("epoch=0-step=2.ckpt"))
    row = Row(LAST, "resume_from=auto", 0, ("[resume] auto: passed over", "auto: goes on from step 2"))
    before = digests(logs)
    keeps_its_promise(row, pretrained(launcher, logs, *launcher.teacher, *TWO_BATCHES, "max_steps=3", *row.items))
    assert before.items() <= digests(logs).items()


# Where it writes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["a file", "below a file", "/proc/logs", "itself"])
def test_log_dirs(target: str, launcher: Launcher, tmp_path: Path) -> None:
    """As they are, or behind a link."""
    (tmp_path / "file").write_text("kept")
    log_dir = tmp_path / ("file" if target == "a file" else "logs")
    if target != "a file":
        log_dir.symlink_to({"below a file": tmp_path / "file/below", "itself": log_dir}.get(target, Path(target)))
    before = digests(tmp_path)
    row = Row(LOGS, f"log_dir={log_dir}", 1, (f"error: log_dir={log_dir}: ",))
    keeps_its_promise(row, pretrained(launcher, log_dir))
    assert before.items() <= digests(tmp_path).items() and not list(tmp_path.glob("*/*"))


ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", "NODE_RANK": "0"}
VARIABLES = {
    "MASTER_PORT=abc": "MASTER_PORT=abc: expected a whole number",
    "MASTER_PORT=99999": "MASTER_PORT=99999: expected a free port, 1 to 65535",
    "NODE_RANK=x": "NODE_RANK=x: expected a whole number",
    "NODE_RANK=-1": "NODE_RANK=-1: expected at least 0",
    "NODE_RANK=7": "NODE_RANK=7, but num_nodes=2",
    "MASTER_ADDR=": "num_nodes=2, but MASTER_ADDR not set",
    "WORLD_SIZE=x": "WORLD_SIZE=x: expected a whole number",
    "SLURM_NTASKS=x": "SLURM_NTASKS=x: expected a whole number",
    "SLURM_JOB_NUM_NODES=x": "SLURM_JOB_NUM_NODES=x: expected a whole number",
    "RANK=0": "RANK=0, but WORLD_SIZE is not set",
    "VLP_WAIT_FOR_RANKS=soon": "VLP_WAIT_FOR_RANKS=soon: expected seconds, more than 0",
}


@each(rows(START, 1, VARIABLES))
def test_variables_of_a_launcher(row: Row, launcher: Launcher, tmp_path: Path) -> None:
    """On the first of two nodes."""
    name, _, value = row.line.partition("=")
    ended = pretrained(launcher, tmp_path / "logs", "num_nodes=2", environment={**ADDRESS, name: value})
    keeps_its_promise(row, ended)
    assert not (tmp_path / "logs").exists()


def test_a_node_that_does_not_come(launcher: Launcher, tmp_path: Path) -> None:
    row = Row(ALONE, "VLP_WAIT_FOR_RANKS=3", 1, ("error: rank 0 waited 3 s for rank 1 of 2, which are to come to ",))
    environment = {**address(), "NODE_RANK": "0", "VLP_WAIT_FOR_RANKS": "3"}
    keeps_its_promise(row, pretrained(launcher, tmp_path / "logs", "num_nodes=2", environment=environment))


# Settings ------------------------------------------------------------------------------------------------

HARDLY_MEANT = [
    *rows(
        NOTICES,
        0,
        {
            "batch_size=64": "[notice] batch_size=64 makes a whole epoch",
            "batch_size=4096": "[notice] batch_size=4096 accumulates 512 batches, but an epoch has",
            "\"datasets=['coco','coco']\"": "reads coco more than once: its pairs count double",
            "warmup_steps=100": "[notice] warmup_steps=100 is no shorter than the run of 1 optimiser steps",
            "warmup_steps=1.0": "[notice] warmup_steps=1.0 is a fraction, the whole run",
        },
    ),
    *rows(NOTICES, 1, {"val_check_interval=100000": "val_check_interval=100000 is more than the "}),
]


@each(HARDLY_MEANT)
def test_settings(row: Row, launcher: Launcher, tmp_path: Path) -> None:
    ended = pretrained(launcher, tmp_path / "logs", "max_steps=1", "warmup_steps=0", *row.items)
    keeps_its_promise(row, ended)
    assert (tmp_path / "logs").exists() == (row.status == 0)


# What it starts from -------------------------------------------------------------------------------------


def test_a_teacher_with_epic(launcher: Launcher, half: Result, tmp_path: Path) -> None:
    row = Row(TEACHER, "teacher_path={half}", 0, ("was itself trained with EPIC",))
    items = ("epic", f"teacher_path={half.checkpoint}", "max_steps=1")
    keeps_its_promise(row, pretrained(launcher, tmp_path / "logs", *items))


def test_a_hub_name_without_a_network(launcher: Launcher, tmp_path: Path) -> None:
    row = Row(HUB, "tokenizer=roberta-base", 1, ("roberta-base", "give tokenizer=FOLDER"))
    keeps_its_promise(row, pretrained(launcher, tmp_path / "logs", *row.items))
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("key", ["load_path", "teacher_path", "resume_from"])
def test_a_flipped_bit_of_a_tensor(key: str, launcher: Launcher, half: Result, tmp_path: Path) -> None:
    """In a checkpoint of ours: the tensor is named, and nothing begins."""
    value = torch.load(half.checkpoint, weights_only=True)["state_dict"]["itm_score.fc.weight"].numpy().tobytes()
    content = half.checkpoint.read_bytes()
    (tmp_path / "flipped.ckpt").write_bytes(content.replace(value, bytes([value[0] ^ 1]) + value[1:]))
    row = Row(WEIGHTS, f"{key}={tmp_path}/flipped.ckpt", 1, ("flipped.ckpt: is damaged", "itm_score.fc.weight"))
    items = (*launcher.teacher, *TWO_BATCHES, "max_steps=4", *row.items)
    keeps_its_promise(row, pretrained(launcher, tmp_path / "logs", *items))
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("key", ["load_path", "teacher_path", "resume_from"])
def test_a_weight_that_is_no_number(key: str, launcher: Launcher, half: Result, tmp_path: Path) -> None:
    """The file and its tensor are named, and nothing begins."""
    name = "token_type_embeddings.weight"
    content = torch.load(half.checkpoint, weights_only=True)
    content["state_dict"][name][1] = torch.nan
    torch.save(content, tmp_path / "nan.ckpt")
    row = Row(NOT_FINITE, f"{key}={tmp_path}/nan.ckpt", 1, (f"error: {tmp_path}/nan.ckpt: NaN or infinite", name))
    items = (*launcher.teacher, *TWO_BATCHES, "max_steps=4", *row.items)
    keeps_its_promise(row, pretrained(launcher, tmp_path / "logs", *items))
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("key", ["tokenizer", "epic.generator"])
def test_a_language_model_with_a_weight_that_is_no_number(key: str, launcher: Launcher, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(launcher.language_model, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name][3, 1] = torch.inf
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "SHA256SUMS").unlink()
    row = Row(NOT_FINITE, f"{key}={folder}", 1, (f"{folder}: NaN or infinite values in", "word_embeddings.weight"))
    keeps_its_promise(row, pretrained(launcher, tmp_path / "logs", *launcher.teacher, *row.items))
    assert not (tmp_path / "logs").exists()


def test_retrieval_on_photos_with_any_name(launcher: Launcher, tmp_path: Path) -> None:
    """Names of the web, and two whose last number is the same."""
    shutil.copytree(launcher.data / "arrow", tmp_path / "arrow")
    path = tmp_path / "arrow/coco_caption_karpathy_test.arrow"
    names = ["a_d530dd478c.jpg", "b_7.jpg", "c_7.jpg", "x.y.z", "é 日本.jpg", "_", "1", "COCO_val2014_12.jpg"]
    images = map(image_bytes, range(len(names)))
    table = zip(read_table(path), names, images, strict=True)
    odd = [{**row, "image_id": name, "image": image} for row, name, image in table]
    for file in [*path.parent.glob("*.json"), *path.parent.glob("*.crc32")]:
        file.unlink()
    write_table(path, odd, CAPTION)
    row = Row(IDENTITY, "test_only=True", 0, ("results: ",))
    items = (*launcher.retrieval, *launcher.items(f"data_root={tmp_path}/arrow", *row.items))
    run = launcher.run(*items, f"load_path={launcher.vanilla.checkpoint}", check=False)
    keeps_its_promise(row, Ended(run.status, run.output))


# Commands ------------------------------------------------------------------------------------------------


def test_converting_a_checkpoint(half: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same input gives the same bytes; what is there is kept."""

    def converted(name: str) -> Ended:
        status = checkpoint_command(["convert", str(half.checkpoint), str(tmp_path / name)])
        return Ended(status, "".join(capsys.readouterr()))

    for name in ("one.safetensors", "two.safetensors"):
        keeps_its_promise(Row(CONVERT, "convert IN OUT", 0, ()), converted(name))
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    kept = Row(CONVERT, "convert IN OUT", 1, ("one.safetensors: is there already and is kept", "--overwrite"))
    with nothing_changes(tmp_path):
        keeps_its_promise(kept, converted("one.safetensors"))


def test_patches_that_are_applied_already(tmp_path: Path) -> None:
    """The README's sequence, in a copy of the tree."""
    spared = shutil.ignore_patterns("__pycache__", "result", "*.arrow")
    for name in ("epic_common", "epic_vlp", "meter", "vilt", "vlp", "patches"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=spared)
    with nothing_changes(tmp_path):
        for arguments, words in (
            ("remove meter", "meter"),
            ("remove meter", "meter is vanilla already"),
            ("apply", "vilt has EPIC already"),
            ("apply", "meter has EPIC already"),
        ):
            keeps_its_promise(Row(PATCHES, arguments, 0, (words,)), patches(tmp_path, *arguments.split()))


def patches(tree: Path, *arguments: str) -> Ended:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "patches", *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60)
    return Ended(done.returncode, done.stdout + done.stderr)
