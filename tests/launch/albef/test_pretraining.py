"""ALBEF's pre-training through Pretrain.py: what it leaves behind, and that EPIC switched off is EPIC not there."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.launch.albef.launcher import EPOCHS, NO_DROPOUT, STEPS, AlbefLauncher, Run
from tests.launch.launcher import ENVIRONMENT, ROOT

METERS = ("loss_mlm", "loss_ita", "loss_itm")
FIXTURES = ROOT / "tests" / "parity" / "fixtures" / "albef"
# docs/method.md §2: reported every log interval, besides the losses.
REPORTED = ("epic_itc", "epic_itc_accuracy", "epic_gen", "epic_generator_accuracy", "epic_replaced_share")


def of_any_layer(names: list[str]) -> set[str]:
    """Names of a state dict without the numbers of layers."""
    return {re.sub(r"(layer|blocks)\.\d+\.", r"\1.", name) for name in names}


def official_keys() -> list[str]:
    """Those of the official model."""
    lines = (FIXTURES / "keys_pretrain.tsv").read_text().splitlines()[1:]
    return [line.split("\t")[0] for line in lines]


def test_the_official_files(vanilla: Run) -> None:
    names = {path.name for path in vanilla.directory.iterdir() if not path.name.startswith("events.")}
    official = {"config.yaml", "log.txt", *(f"checkpoint_{epoch:02d}.pth" for epoch in range(EPOCHS))}
    assert official | {"metrics.jsonl", "results.json", "config.json", "checkpoints"} <= names
    assert vanilla.checkpoint.exists() and list(vanilla.directory.glob("events.out.tfevents.*"))
    for epoch in range(EPOCHS):
        content = vanilla.official(f"checkpoint_{epoch:02d}.pth")
        assert set(content) == {"model", "optimizer", "lr_scheduler", "config", "epoch"}
        assert content["epoch"] == epoch and content["config"]["image_res"] == 32
        assert content["optimizer"]["param_groups"][0]["params"] and content["optimizer"]["state"]
        assert of_any_layer(list(content["model"])) == of_any_layer(official_keys())
    assert vanilla.results["checkpoint"].endswith(f"checkpoint_{EPOCHS - 1:02d}.pth")


def test_the_official_log(vanilla: Run) -> None:
    """Means of an epoch's steps, as text with three digits."""
    assert [line["epoch"] for line in vanilla.log] == [*range(EPOCHS)]
    for line in vanilla.log:
        assert set(line) == {"train_lr", *(f"train_{meter}" for meter in METERS), "epoch"}
        for meter in METERS:
            steps = vanilla.values(f"train/{meter}")[STEPS * line["epoch"] :][:STEPS]
            assert len(steps) == STEPS and all(map(math.isfinite, steps))
            assert re.fullmatch(r"\d+\.\d{3}", line[f"train_{meter}"])
            assert float(line[f"train_{meter}"]) == pytest.approx(sum(steps) / STEPS, abs=6e-4)
    # The distillation ramp: from nothing to all of it over the first epoch.
    assert vanilla.values("train/alpha") == pytest.approx([0, 0.1, 0.2, 0.3, *[0.4] * STEPS])


def test_queues_hold_the_features_of_the_last_batches(vanilla: Run) -> None:
    """8 batches of 16 go around a queue of 64 twice."""
    before, after = (vanilla.official(f"checkpoint_{epoch:02d}.pth")["model"] for epoch in range(EPOCHS))
    assert before["queue_ptr"].item() == after["queue_ptr"].item() == 0
    for queue in ("image_queue", "text_queue"):
        assert (before[queue] != after[queue]).all()
        assert torch.allclose(after[queue].norm(dim=0), torch.ones(64), atol=1e-5)
    key = "text_encoder.bert.encoder.layer.0.attention.self.query.weight"
    ours, follows = after[key], after[key.replace("text_encoder.", "text_encoder_m.")]
    assert not torch.equal(ours, before[key]) and not torch.equal(ours, follows)


def test_a_run_can_be_repeated_from_its_config(albef: AlbefLauncher, vanilla: Run) -> None:
    """``config.yaml`` alone, with the flags that are no keys of it."""
    output = albef.log_dir()
    config = ("--config", str(vanilla.directory / "config.yaml"), "--output_dir", str(output))
    argv = ["Pretrain.py", *config, "--text_encoder", str(albef.language_model)]
    assert albef.ended(argv, [{}], [f"{output}.txt"]) == [0], Path(f"{output}.txt").read_text()
    again = Run(0, "", output)
    assert again.metrics == vanilla.metrics and again.log == vanilla.log


def test_epic_off_is_vanilla_to_the_bit(albef: AlbefLauncher, vanilla: Run, tmp_path: Path) -> None:
    """ALBEF with its patch taken out, in a place where neither epic_common nor epic_vlp can be imported."""
    for package in ("albef", "vlp", "patches"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "output"))
    subprocess.run([sys.executable, "-m", "patches", "remove", "albef"], cwd=tmp_path, check=True)
    for package in ("epic_common", "epic_vlp"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise ImportError('vanilla albef imports {package}')")
    command = [sys.executable, "-c", "import albef, vlp; print(albef.__file__, vlp.__file__)"]
    imported = subprocess.check_output(
        command, env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, text=True
    )
    assert imported.split() == [str(tmp_path / package / "__init__.py") for package in ("albef", "vlp")]
    stripped = albef.cold("Pretrain", root=tmp_path)
    assert stripped.metrics == vanilla.metrics and stripped.log == vanilla.log
    ours, theirs = (run.official("checkpoint_01.pth")["model"] for run in (vanilla, stripped))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert "epic" not in stripped.config() and "epic" in vanilla.config()


# EPIC ----------------------------------------------------------------------------------------------------


def test_epic_trains_beside_the_official_objectives(epic: Run, vanilla: Run) -> None:
    for tag in (*(f"train/{meter}" for meter in METERS), *(f"epic/train/{name}" for name in REPORTED)):
        values = epic.values(tag)
        assert len(values) == STEPS * EPOCHS and all(map(math.isfinite, values)), tag
    # officially named losses alone in the official log
    assert [set(line) for line in epic.log] == [set(line) for line in vanilla.log]
    # Official code loads the official model strictly; EPIC's own weights stand beside it.
    ours, theirs = epic.official("checkpoint_01.pth"), vanilla.official("checkpoint_01.pth")
    assert list(ours["model"]) == list(theirs["model"]) and ours.keys() - theirs.keys() == {"added_model"}
    assert {".".join(key.split(".")[:2]) for key in ours["added_model"]} == {"epic.generator", "epic.head"}
    assert re.search(r"\[epic\] teacher .*checkpoint_01\.pth, sha256 [0-9a-f]{64}", epic.output)


@pytest.mark.parametrize("teacher", ["checkpoint", pytest.param("momentum", marks=pytest.mark.slow)])
def test_the_first_step_has_the_losses_of_the_vanilla_run(teacher: str, albef: AlbefLauncher) -> None:
    """The same weights and the same batch: EPIC's sentences stand beside the official ones and change nothing."""
    own = albef.teacher if teacher == "checkpoint" else (*albef.teacher[:2], "epic.teacher=momentum")
    vanilla, epic = (albef.run("Pretrain", *NO_DROPOUT, "max_steps=2", *items) for items in ((), own))
    for meter in ("loss_mlm", "loss_ita"):
        assert epic.values(f"train/{meter}")[0] == pytest.approx(vanilla.values(f"train/{meter}")[0], rel=1e-5), meter
    ours, theirs = (torch.load(run.checkpoint, weights_only=True)["state_dict"] for run in (epic, vanilla))
    assert all(
        not torch.equal(ours[key], theirs[key]) for key in theirs if key.endswith("crossattention.self.key.weight")
    )
    assert all(map(math.isfinite, epic.values("epic/train/epic_itc")))
