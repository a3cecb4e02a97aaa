"""Wrong command lines end at once, with a status that is not 0 and one line that names the key and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from transformers import RobertaConfig

from tests.launch.launcher import SHARED_CODE, VILT_ALONE, Launcher, Result

UNKNOWN = {
    "imge_size=64": "unknown config key 'imge_size'; did you mean 'image_size'?",
    "clip61": "unknown named config 'clip61'; did you mean 'clip16'?",
    "epic.mask_ration=0.5": "unknown config key 'epic.mask_ration'; did you mean 'epic.mask_ratio'?",
    "epic.on_regions=True": "unknown config key 'epic.on_regions'; did you mean 'epic.",
    "loss_names.mml=0": "unknown config key 'loss_names.mml'; did you mean 'loss_names.mlm'?",
}
WRONG = {
    "data_root=": "data_root must be given",
    "data_root=nowhere": "data_root=nowhere: not a folder; docs/data.md says how to make the tables",
    "per_gpu_batchsize=0": "per_gpu_batchsize must be given",
    "image_size=abc": "image_size='abc': expected a whole number, at least 1",
    "image_size=72": "image_size=72 is not a multiple of the patch size 16",
    "compile=fastest": "compile='fastest': choose True, False or a backend of torch.compile: ",
    "precision=8": "precision=8: expected 32, 16, '32', '16' or 'bf16'",
    "vit=ViT-B/61": "did you mean 'ViT-B/16'?",
    "vocab_size=100": "vocab_size=100, but tokenizer=",
    "loss_names.vcr=1": "loss_names.vcr: only mlm, itm, irtr, vqa, nlvr2, snli",
    "loss_names.vqa=1": "loss_names.vqa needs vqa data, which datasets=['coco'] is not",
    "eval_split=train": "eval_split='train': expected 'test' or 'val'",
    "load_path=nowhere.ckpt": "nowhere.ckpt: no such file",
    "resume_from=nowhere.ckpt": "resume_from=nowhere.ckpt: no such file",
    "datasets=['cooc']": "cooc",
    "epic.enabled=True": "teacher_path must be given: the checkpoint of a METER",
    "epic.mask_ratio=2": "epic.mask_ratio is 2; it must be at least 0, at most 1",
}
VILT_WRONG = {
    "max_image_len=0": "max_image_len=0",
    "hidden_size=32": "vit=vit_tiny_patch16_64 has hidden_size=128 (here 32)",
    "init.vision=pretrained": "give init.vision=<file>",
    "epic.enabled=True": "teacher_path must be given: the checkpoint of a ViLT",
    "epic_lm_cond": "epic.image_conditioned=True is not possible with ViLT",
}


# With a teacher, and tables that are not there: what is wrong with EPIC is said before they are opened.
EPIC_WRONG = {
    "epic.saliency_layer=99": r"epic.saliency_layer=99: the teacher",
    "epic.append_sep=True": "epic.append_sep=True is not possible with METER",
    "teacher_path=nowhere.ckpt": "nowhere.ckpt: no such file",
    "saliency_cache=nowhere": "saliency_cache nowhere does not exist; build it: python epic_saliency_cache.py with",
}


def refused(run: Result, message: str, status: int) -> None:
    assert run.status == status, run.output
    assert message in run.output
    assert "Traceback" not in run.output
    assert not list(run.log_dir.glob("*"))  # nothing was begun


@SHARED_CODE
@pytest.mark.parametrize("item", UNKNOWN)
def test_unknown_names_are_answered_with_the_nearest(item: str, launcher: Launcher) -> None:
    refused(launcher.pretrain(item, check=False), UNKNOWN[item], status=2)


@SHARED_CODE
@pytest.mark.parametrize("item", WRONG)
def test_wrong_values(item: str, launcher: Launcher) -> None:
    is_refused(item, WRONG[item], launcher)


@SHARED_CODE
@pytest.mark.parametrize("item", EPIC_WRONG)
def test_what_is_wrong_with_epic_is_said_before_the_tables_are_opened(
    item: str, launcher: Launcher, tmp_path: Path
) -> None:
    run = launcher.pretrain(*launcher.teacher, f"data_root={tmp_path}", item, check=False)
    refused(run, EPIC_WRONG[item], status=1)
    assert run.output.rstrip().splitlines()[-1].startswith("error: ") and "[init]" not in run.output


@VILT_ALONE
@pytest.mark.parametrize("item", VILT_WRONG)
def test_values_that_are_wrong_for_vilt(item: str, launcher: Launcher) -> None:
    is_refused(item, VILT_WRONG[item], launcher)


def is_refused(item: str, message: str, launcher: Launcher) -> None:
    items = ["epic", "epic.enabled=True"] if item.startswith("epic.") else []
    run = launcher.pretrain(*items, item, check=False)
    refused(run, message, status=1)
    assert run.output.rstrip().splitlines()[-1].startswith("error: ")


@SHARED_CODE
def test_official_encoders_that_cannot_be_had_are_not_replaced_by_random_ones(
    launcher: Launcher, tmp_path: Path
) -> None:
    """A machine without a network and with the tokenizer alone: nothing starts until ``init=random`` says so."""
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(launcher.language_model / name, tmp_path)
    RobertaConfig(vocab_size=launcher.vocab_size).save_pretrained(tmp_path)
    items = launcher.items(f"tokenizer={tmp_path}", "image_size=224", "max_text_len=40")
    run = launcher.run("task_mlm_itm_clip_bert", "clip16", "text_roberta", *items, check=False)
    refused(run, "or init=random to start from random encoders", status=1)


def test_official_vision_weights_that_cannot_be_had(launcher: Launcher) -> None:
    items = {"meter": ("vit=ViT-B/16", "input_image_embed_size=768"), "vilt": ("vit32_base",)}[launcher.name]
    run = launcher.pretrain(*items, "image_size=64", "init.vision=pretrained", check=False)
    refused(run, "or init=random", status=1)


@SHARED_CODE
def test_a_tokenizer_that_cannot_be_had(launcher: Launcher) -> None:
    run = launcher.run(
        *("task_mlm_itm_clip_bert", "clip16", "text_roberta", f"data_root={launcher.data / 'arrow'}"),
        *("datasets=['coco']", "per_gpu_batchsize=8", "num_gpus=1"),
        check=False,
    )
    refused(run, "error: tokenizer 'roberta-base': neither a local path nor in the local cache, and HF_HUB", status=1)
