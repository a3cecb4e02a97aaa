"""EPIC pre-training through the launcher: what is logged and saved, and what it shares with the vanilla run."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from epic_common.config import PRESETS
from tests.launch.launcher import LOSSES, OTHERS_SLOW, SHARED_CODE, Launcher, Result
from tests.unit.data.raw import write
from vlp.checkpoint.folder import SUMS

GENERATOR_KEYS = {
    "roberta": {"lm_head.dense.weight", "roberta.embeddings.word_embeddings.weight"},
    "bert": {"cls.predictions.transform.dense.weight", "bert.embeddings.word_embeddings.weight"},
}
VARIANTS = [
    "vlm_sas",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("itc_rand", "itc_lm", "lm_fixed", "lm_trained")),
]
# docs/method.md §2: reported every log interval, besides the losses.
REPORTED = {
    *("epic_itc", "epic_itc_accuracy", "epic_itc_precision", "epic_itc_recall", "epic_itc_f1", "epic_itc_auroc"),
    *("epic_gen", "epic_generator_accuracy", "epic_replaced_share", "epic_masked_share", "epic_saliency_entropy"),
}


WORDS = "mlm_score.decoder.weight"


def state_dict(run: Result) -> dict[str, Any]:
    return torch.load(run.checkpoint, weights_only=True)["state_dict"]


def test_tags_of_every_step_and_of_the_validation(epic: Result) -> None:
    for phase, times in (("train", 3), ("val", 1)):
        for name in REPORTED:
            values = epic.values(f"epic/{phase}/{name}")
            # They are left out where no token is judged replaced, or where none or every one is.
            may_lack = name in ("epic_itc_precision", "epic_itc_auroc")
            assert len(values) == times or (may_lack and len(values) < times), (phase, name)
            assert all(math.isfinite(value) for value in values), (name, values)
    logged = {tag for line in epic.metrics for tag in line if tag.startswith("epic/train/")}
    assert logged | {"epic/train/epic_itc_precision"} == {f"epic/train/{name}" for name in REPORTED}


def test_the_loss_is_the_sum_of_all_objectives(launcher: Launcher, epic: Result) -> None:
    match = re.search(r"step 3/3 · loss (\d+\.\d+)", epic.output)
    assert match
    own = sum(epic.values(tag)[2] for tag in LOSSES[launcher.name])
    itc, gen = (epic.values(f"epic/train/epic_{name}")[2] for name in ("itc", "gen"))
    assert float(match[1]) == pytest.approx(own + 8 * itc + gen, abs=2e-3)


def test_epic_is_no_part_of_the_model_selection(epic: Result) -> None:
    parts = [epic.values(f"{task}/val/accuracy_epoch")[-1] for task in ("mlm", "itm")]
    assert epic.values("val/the_metric")[-1] == pytest.approx(sum(parts))


def test_one_field_given_on_the_command_line_reaches_the_run(epic: Result) -> None:
    config = epic.config()["epic"]
    assert config["enabled"] is True and config["mask_ratio"] == 0.5
    # m = ceil(n / 2) of n words
    assert all(0.5 <= share < 0.6 for share in epic.values("epic/train/epic_masked_share"))


def test_the_checkpoint_holds_generator_and_head_but_no_teacher(
    launcher: Launcher, epic: Result, vanilla: Result
) -> None:
    ours, theirs = state_dict(epic), state_dict(vanilla)
    own = [key for key in ours if key not in theirs]
    assert list(theirs) == [key for key in ours if key in theirs]
    assert {".".join(key.split(".")[:2]) for key in own} == {"epic.generator", "epic.head"}
    generator = {key.removeprefix("epic.generator.language_model.") for key in own if "generator" in key}
    assert GENERATOR_KEYS[launcher.baseline.text_family] <= generator
    checkpoint = torch.load(epic.checkpoint, weights_only=True)
    assert checkpoint["epic"]["snapshot"] is None and len(checkpoint["epic"]["rng"]) == 1
    assert sum(t.numel() for t in ours.values()) < 2 * sum(t.numel() for t in theirs.values())


@SHARED_CODE
def test_a_checkpoint_goes_on_whose_config_has_a_field_that_is_gone(
    launcher: Launcher, epic: Result, tmp_path: Path
) -> None:
    checkpoint = torch.load(epic.checkpoint, weights_only=True)
    checkpoint["hyper_parameters"]["config"]["epic"]["on_regions"] = False
    torch.save(checkpoint, tmp_path / "old.ckpt")
    same = ("val_check_interval=3", *launcher.teacher, "epic.mask_ratio=0.5")
    items = (*same, "max_steps=4", f"resume_from={tmp_path / 'old.ckpt'}")
    assert len(launcher.pretrain(*items).values("epic/train/epic_itc")) == 1


def test_the_teacher_is_named_with_its_hash(epic: Result, vanilla: Result) -> None:
    assert re.search(rf"\[epic\] teacher {re.escape(str(vanilla.checkpoint))}, sha256 [0-9a-f]{{64}}", epic.output)


def test_the_first_step_has_the_losses_of_the_vanilla_run(launcher: Launcher, tmp_path: Path) -> None:
    """Same initial weights, same batch, no dropout: EPIC's rows stand beside the baseline's own and change nothing."""
    folder = shutil.copytree(launcher.language_model, tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    quiet = {**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    write(folder / "config.json", json.dumps(quiet))
    (folder / SUMS).unlink()
    own = ("drop_rate=0.0", f"tokenizer={folder}")
    vanilla, epic = (launcher.pretrain(*own, *items) for items in ((), launcher.teacher))
    for tag in (*LOSSES[launcher.name], "mlm/train/accuracy", "itm/train/accuracy"):
        assert epic.values(tag)[0] == pytest.approx(vanilla.values(tag)[0], rel=1e-6), tag
    assert epic.values("mlm/train/loss")[2] != pytest.approx(vanilla.values("mlm/train/loss")[2], rel=1e-6)


@OTHERS_SLOW
def test_initial_weights_are_those_of_the_vanilla_run(launcher: Launcher, vanilla: Result) -> None:
    """The first step of a warm-up runs at learning rate 0, so a run of one step saves what it started from."""
    without, with_epic = (state_dict(launcher.pretrain("max_steps=1", *items)) for items in ((), launcher.teacher))
    assert all(torch.equal(with_epic[key], value) for key, value in without.items())
    trained = state_dict(vanilla)
    assert not torch.equal(trained["mlm_score.decoder.weight"], without["mlm_score.decoder.weight"])


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_of_the_paper_train(name: str, launcher: Launcher) -> None:
    trains(name, launcher)


@SHARED_CODE
def test_a_language_model_that_is_given_the_image_trains(launcher: Launcher) -> None:
    trains("lm_cond", launcher)


def trains(name: str, launcher: Launcher) -> None:
    """Two steps of a variant, with its losses and its parts in the checkpoint."""
    items = [f"epic_{name}", f"teacher_path={launcher.vanilla.checkpoint}"]
    if name == "lm_trained":
        items += [f"epic.generator={launcher.language_model}"]
    if name == "vlm_sas":
        items += ["epic.sas_refresh_steps=1"]
    run = launcher.pretrain("max_steps=2", *items)
    losses = run.values("epic/train/epic_itc")
    assert len(losses) == 2 and all(math.isfinite(loss) for loss in losses)
    assert any(value > 0 for value in run.values("epic/train/epic_gen")) == (name in ("itc_lm", "lm_cond"))
    parts = {".".join(key.split(".")[:2]) for key in state_dict(run) if key.startswith("epic.")}
    has_lm = PRESETS[name].get("replacement", "lm") == "lm"
    assert parts == {"epic.head", *(["epic.generator"] if has_lm else [])}
    if name == "vlm_sas":
        snapshot = torch.load(run.checkpoint, weights_only=True)["epic"]["snapshot"]
        assert snapshot["refreshed_at"] == 1  # before the second step
        teacher = state_dict(launcher.vanilla)
        assert not torch.equal(snapshot["weights"][WORDS], teacher[WORDS])
