"""What cannot run ends in one line that names what is wrong, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.launch.albef.launcher import AlbefLauncher, Run
from tests.launch.yaml_launcher import ended_in_a_line, refused


@pytest.mark.parametrize(
    ("script", "items", "message"),
    [
        ("Pretrain", ["batchsize=8"], "unknown config key 'batchsize'"),
        ("Pretrain", ["optimizer.rate=1"], "unknown config key 'optimizer.rate'"),
        ("Pretrain", ["bert_config.vocab=1"], "unknown config key 'bert_config.vocab'"),
        ("Pretrain", ["train_file=nowhere.json"], "nowhere.json: no such file"),
        ("Pretrain", ["image_root=nowhere"], "image_root=nowhere"),
        ("Pretrain", ["batch_size=1"], "batch_size=1: its objectives need at least 2 samples"),
        ("Pretrain", ["queue_size=60"], "queue_size=60 is not a multiple of 1 process(es) x batch_size=16"),
        ("Pretrain", ["bert_config.vocab_size=20"], "vocab_size"),
        ("Pretrain", ["epic.enabled=True"], "teacher_path"),
        ("Pretrain", ["--checkpoint", "nowhere.pth"], "nowhere.pth"),
        ("Retrieval", ["--evaluate"], "--evaluate needs --checkpoint"),
        ("Retrieval", ["init=pretrained"], "checkpoint: none is given"),
        ("Retrieval", ["batch_size_train=1"], "batch_size_train=1"),
        ("VQA", ["answer_list=nowhere.json"], "nowhere.json: no such file"),
        ("Grounding", ["--block_num", "1"], "block_num=1: the fusion layers are 2 to 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_in_one_line(script: str, items: list[str], message: str, albef: AlbefLauncher) -> None:
    refused(albef.run(script, *items, check=False), message)


def test_a_training_set_smaller_than_a_batch(albef: AlbefLauncher) -> None:
    """It is seen when the run has its folder, before a step."""
    run = albef.run("Pretrain", "batch_size=128", "queue_size=128", check=False)
    ended_in_a_line(run, "64 training rows for 1 process(es) make no whole batch of 128")
    assert not run.checkpoint.exists() and not list(run.directory.glob("*.pth"))


def test_an_unknown_flag(albef: AlbefLauncher) -> None:
    refused(
        albef.run("Pretrain", "--batch_size", "8", check=False), "a key of the YAML file is given as batch_size=", 2
    )


def test_files_of_another_stage(albef: AlbefLauncher, vanilla: Run, tmp_path: Path) -> None:
    refused(
        albef.run("VE", "--evaluate", "--checkpoint", albef.pretrained, check=False),
        "has no cls_head: --evaluate scores a fine-tuned checkpoint",
    )
    refused(
        albef.run("NLVR", "--checkpoint", albef.pretrained, check=False),
        "is a checkpoint of pre-training; NLVR2 starts from one of its text assignment",
    )
    torch.save({"model": {"some.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    refused(albef.run("Pretrain", "--checkpoint", str(tmp_path / "other.pth"), check=False), "other.pth")


def test_weights_that_are_no_numbers(albef: AlbefLauncher, tmp_path: Path) -> None:
    """As start, as teacher, and to be scored; the tensors are named."""
    content, path = torch.load(albef.pretrained, weights_only=True), tmp_path / "nan.pth"
    content["model"]["visual_encoder.norm.weight"][0] = torch.nan
    torch.save(content, path)
    message = f"{path}: NaN or infinite values in visual_encoder.norm.weight; "
    for script, *items in (
        ("Pretrain", "--checkpoint", path),
        ("Pretrain", "epic.enabled=True", f"teacher_path={path}"),
        ("Retrieval", "--evaluate", "--checkpoint", path),
    ):
        refused(albef.run(script, *map(str, items), check=False), message)


def test_what_cannot_be_gone_on_with(albef: AlbefLauncher, vanilla: Run) -> None:
    resume = f"resume_from={vanilla.checkpoint}"
    for items, message in (
        (["schedular.epochs=3"], "schedular.epochs"),
        (["batch_size=8"], "batch_size"),
        (["epic.enabled=True", f"teacher_path={albef.pretrained}"], "epic"),
        (["--seed", "1"], "seed"),
    ):
        run = albef.run("Pretrain", resume, *items, check=False)
        ended_in_a_line(run, message)
