"""A vanilla pre-training run: what it leaves behind, and that EPIC switched off is EPIC not there."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.launch.launcher import ENVIRONMENT, LOSSES, ROOT, SHARED_CODE, Launcher, Result

# What of the runs below is a baseline's own: multiples of learning_rate by parameter group; keys of the state dict, in
# order, among them the first one.
RATES = {"meter": (1, 1, 5, 5, 5, 5), "vilt": (1, 1, 1, 1)}
KEYS = {
    "meter": [
        *("cross_modal_text_transform.weight", "cross_modal_text_transform.bias", "cross_modal_image_transform.weight"),
        "vit_model.visual.transformer.resblocks.3.attn.in_proj_weight",
        "text_transformer.encoder.layer.0.attention.self.query.weight",
        "mlm_score.decoder.weight",
    ],
    "vilt": [
        *("text_embeddings.position_ids", "text_embeddings.word_embeddings.weight", "token_type_embeddings.weight"),
        *("transformer.cls_token", "transformer.pos_embed", "transformer.patch_embed.proj.weight"),
        *("transformer.blocks.3.attn.qkv.weight", "transformer.norm.weight", "pooler.dense.weight"),
        "mlm_score.decoder.weight",
    ],
}


def logged(launcher: Launcher) -> set[str]:
    """Tags of a training step."""
    return {*LOSSES[launcher.name], "mlm/train/accuracy", "itm/train/accuracy"}


def test_run_directory(vanilla: Result) -> None:
    assert vanilla.directory.parent.name == "mlm_itm_seed0_from_"
    files = sorted(str(path.relative_to(vanilla.directory)) for path in vanilla.directory.rglob("*") if path.is_file())
    events = [name for name in files if name.startswith("events.out.tfevents.")]
    assert len(events) == 1
    best, last = "checkpoints/epoch=0-step=3.ckpt", "checkpoints/last.ckpt"
    assert set(files) - set(events) == {best, last, "config.json", "data.json", "hparams.yaml", "metrics.jsonl"}


def test_tensorboard_tags(launcher: Launcher, vanilla: Result) -> None:
    events = EventAccumulator(str(vanilla.directory)).Reload()
    tags = set(events.Tags()["scalars"])
    expected = {
        tag.replace("train", phase) + end
        for tag in logged(launcher)
        for phase in ("train", "val")
        for end in ("", "_epoch")
    }
    multiples = RATES[launcher.name]
    rates = {f"lr-AdamW/pg{i}" for i in range(1, len(multiples) + 1)}
    assert tags - {"epoch", "hp_metric"} == expected | rates | {"train/the_metric", "val/the_metric", "data/wait_share"}
    assert [event.step for event in events.Scalars("mlm/train/loss")] == [0, 1, 2]
    for i, times in enumerate(multiples, start=1):
        values = [event.value for event in events.Scalars(f"lr-AdamW/pg{i}")]
        assert values == pytest.approx([0, times * 1e-3, times * 5e-4])


def test_metrics_lines_hold_what_tensorboard_holds(launcher: Launcher, vanilla: Result) -> None:
    events = EventAccumulator(str(vanilla.directory)).Reload()
    for tag in (*logged(launcher), "mlm/val/loss", "val/the_metric"):
        assert vanilla.values(tag) == pytest.approx([event.value for event in events.Scalars(tag)])
        assert all(math.isfinite(value) for value in vanilla.values(tag))


def test_the_metric_is_the_sum_of_accuracies(vanilla: Result) -> None:
    for phase in ("train", "val"):
        parts = [vanilla.values(f"{task}/{phase}/accuracy_epoch")[-1] for task in ("mlm", "itm")]
        assert vanilla.values(f"{phase}/the_metric")[-1] == pytest.approx(sum(parts))


def test_epoch_means_weigh_tokens_and_samples(launcher: Launcher, vanilla: Result) -> None:
    """Batches have unequal numbers of masked tokens: a mean over all of the epoch is not that of the batches' means."""
    datamodule = launcher.baseline.datamodule(vanilla.config())
    batches = list(islice(datamodule.train_dataloader(), 3))
    masked = [int((batch["text_labels_mlm"] != -100).sum()) for batch in batches]
    pairs = [len(batch["text"]) for batch in batches]
    for task, weights in (("mlm", masked), ("itm", pairs)):
        for quantity in ("loss", "accuracy"):
            steps = vanilla.values(f"{task}/train/{quantity}")
            mean = sum(w * step for w, step in zip(weights, steps, strict=True)) / sum(weights)
            assert vanilla.values(f"{task}/train/{quantity}_epoch") == [pytest.approx(mean, rel=1e-6)]
    steps = vanilla.values("mlm/train/loss")
    assert vanilla.values("mlm/train/loss_epoch") != [pytest.approx(sum(steps) / 3, rel=1e-5)]


def test_resolved_config_and_versions(vanilla: Result) -> None:
    config = vanilla.config()
    expected = {"exp_name": "mlm_itm", "image_size": 64, "max_steps": 3, "whole_word_masking": True, "max_text_len": 30}
    assert {key: config[key] for key in expected} == expected
    assert config["loss_names"]["mlm"] == config["loss_names"]["itm"] == 1
    assert config["epic"]["enabled"] is False


def test_checkpoint_has_official_keys_and_the_config(launcher: Launcher, vanilla: Result) -> None:
    checkpoint = torch.load(vanilla.checkpoint, weights_only=True)
    official = {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "callbacks"}
    assert official | {"optimizer_states", "lr_schedulers", "hyper_parameters"} <= checkpoint.keys()
    assert (checkpoint["global_step"], checkpoint["hyper_parameters"]["config"]) == (3, vanilla.config())
    keys = list(checkpoint["state_dict"])
    wanted = KEYS[launcher.name]
    assert keys[0] == wanted[0] and [key for key in keys if key in wanted] == wanted
    assert keys[-2:] == ["itm_score.fc.weight", "itm_score.fc.bias"]
    assert not any("epic" in key or "metric" in key or "train_" in key for key in keys)


@SHARED_CODE
def test_a_loaded_encoder_is_named_with_its_hash(launcher: Launcher, vanilla: Result) -> None:
    name = re.escape(str(launcher.language_model))
    assert re.search(rf"\[init\] text: {name}, sha256 of its tensors [0-9a-f]{{64}}", vanilla.output)


def test_where_it_runs_and_how_far_it_is_gets_printed(vanilla: Result) -> None:
    assert "no CUDA device: 1 process(es) run on the CPU with gloo" in vanilla.output
    assert re.search(r"step 3/3 · loss \d\.\d{3} · .* steps/s · data \d+ % · 0:00 left", vanilla.output)
    assert "module(s) in eval mode" not in vanilla.output


@SHARED_CODE
def test_another_seed_gives_other_numbers(launcher: Launcher, vanilla: Result) -> None:
    other = launcher.pretrain("seed=1")
    assert other.directory.parent.name == "mlm_itm_seed1_from_"
    assert other.values("mlm/train/loss")[0] != vanilla.values("mlm/train/loss")[0]


# EPIC off ------------------------------------------------------------------------------------------------


def test_epic_off_is_vanilla_to_the_bit(launcher: Launcher, vanilla: Result, tmp_path: Path) -> None:
    """The baseline with its patch taken out, in a place where neither epic_common nor epic_vlp can be imported."""
    name = launcher.name
    for package in (name, "vlp", "patches"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "result"))
    subprocess.run([sys.executable, "-m", "patches", "remove", name], cwd=tmp_path, check=True)
    for package in ("epic_common", "epic_vlp"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise ImportError('vanilla {name} imports {package}')")
    command = [sys.executable, "-c", f"import {name}, vlp; print({name}.__file__, vlp.__file__)"]
    imported = subprocess.check_output(
        command, cwd=tmp_path / name, env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}, text=True
    )
    assert imported.split() == [str(tmp_path / package / "__init__.py") for package in (name, "vlp")]

    stripped = launcher.cold(*launcher.pretraining, *launcher.items("val_check_interval=3"), root=tmp_path)
    assert len(vanilla.values("mlm/train/loss")) == 3
    assert stripped.metrics == vanilla.metrics
    ours, theirs = (torch.load(run.checkpoint, weights_only=True)["state_dict"] for run in (vanilla, stripped))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert "epic" not in stripped.config()
