"""What cannot run ends in one line that names what is wrong, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.launch.xvlm.launcher import Run, XvlmLauncher
from tests.launch.yaml_launcher import ended_in_a_line, refused
from vlp.data.jsonl.__main__ import main as check_lines


@pytest.mark.parametrize(
    ("script", "items", "message"),
    [
        ("Pretrain", ["images.batchsize=8"], "unknown config key 'images.batchsize'"),
        ("Pretrain", ["accelerator.FP16=O1"], "unknown config key 'accelerator.FP16'"),
        ("Pretrain", ["train_file=nowhere"], "nowhere: no such file or folder"),
        ("Pretrain", ["train_file=hdfs://path/to/coco"], "train_file=hdfs://path/to/coco: HDFS is not read"),
        ("Pretrain", ["images.batch_size=64"], "train_dataset_size=64: an epoch needs two steps or more"),
        ("Pretrain", ["text_config.vocab_size=20"], "vocab_size is 20"),
        ("Pretrain", ["image_res=96"], "image_res=96, but vision_config.image_res=64"),
        ("Pretrain", ["accelerator.backend=apex"], "accelerator.backend=apex computes on GPUs alone"),
        ("Pretrain", ["--checkpoint", "nowhere.th"], "nowhere.th: no such file"),
        ("Pretrain", ["images.image_key=binary"], "images.image_key"),
        ("Pretrain", ["regions.tokenized=True"], "they are not its pieces. Say tokenized: False"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_in_one_line(script: str, items: list[str], message: str, xvlm: XvlmLauncher) -> None:
    refused(xvlm.run(script, *items, check=False), message)


def test_an_unknown_flag(xvlm: XvlmLauncher) -> None:
    refused(xvlm.run("Pretrain", "--bs", "8", check=False), "unknown flag --bs", 2)


def test_captions_that_are_no_pieces(xvlm: XvlmLauncher, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list is named, three captions are shown with what becomes of them, and ``check`` says the same."""
    run = xvlm.run("Pretrain", "images.tokenized=True", check=False)
    refused(run, f"error: {xvlm.data}/lines/coco/coco-00000-of-00002.jsonl: of ")
    said = run.output.splitlines()[-1].removeprefix("error: ")
    captions = {row["caption"][:60] for row in json.loads((xvlm.data / "lists/coco.json").read_text())}
    assert sum(f"{caption!r} becomes '" in said for caption in captions) == 3 and said.count("[UNK]") > 3

    images = {"image_key": "image_rpath", "is_image_rpath": True, "tokenized": True}
    given = {"image_root": str(xvlm.data), "text_encoder": str(xvlm.language_model)}
    recipe = {"train_file": [str(xvlm.data / "lines/coco")], "images": images, **given}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert check_lines(["check", "--config", str(tmp_path / "recipe.yaml")]) == 1
    assert said in capsys.readouterr().out


def test_a_file_of_another_model(xvlm: XvlmLauncher, tmp_path: Path) -> None:
    torch.save({"model": {"some.weight": torch.zeros(2)}}, tmp_path / "other.th")
    refused(xvlm.run("Pretrain", "--checkpoint", str(tmp_path / "other.th"), check=False), "other.th")


def test_weights_that_are_no_numbers(xvlm: XvlmLauncher, tmp_path: Path) -> None:
    content, path = torch.load(xvlm.pretrained, weights_only=True), tmp_path / "nan.th"
    content["model"]["text_proj.weight"][0, 0] = -torch.inf
    torch.save(content, path)
    refused(
        xvlm.run("Pretrain", "--checkpoint", str(path), check=False),
        f"{path}: NaN or infinite values in text_proj.weight; ",
    )


def test_what_cannot_be_gone_on_with(xvlm: XvlmLauncher, vanilla: Run) -> None:
    resume = f"resume_from={vanilla.checkpoint}"
    for items, message in (
        (["schedular.epochs=3"], "schedular.epochs"),
        (["regions.batch_size=8"], "regions.batch_size"),
        (["regions.iter_perc=1.0"], "regions.iter_perc"),
        (["--seed", "1"], "seed"),
    ):
        run = xvlm.run("Pretrain", resume, *items, check=False)
        ended_in_a_line(run, message)
