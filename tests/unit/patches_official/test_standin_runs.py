"""The inserted lines at their official places: launchers of stand-ins, unpatched and patched, EPIC off and on."""

from __future__ import annotations

import json
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import epic_fusion
import pytest
import torch

from patches.official.checkout import plan_remove
from patches.official.source import files_beside
from patches.official.transaction import change_files
from tests.unit.albef.epic import SIZES as ALBEF_SIZES
from tests.unit.albef.small import pretraining as albef
from tests.unit.patches_official.fusion_fakes import bert_folder
from tests.unit.patches_official.standins import patch_of, patched, standin
from tests.unit.patches_official.trees import contents
from tests.unit.xvlm.epic import SIZES as XVLM_SIZES
from tests.unit.xvlm.small import pretraining as xvlm

CONFIGS = {"albef": "configs/Pretrain.yaml", "xvlm": "configs/Pretrain_XVLM_base_4m.yaml"}
LAST = {"albef": "checkpoint_01.pth", "xvlm": "model_state_epoch_1.th"}
EVERY = pytest.mark.parametrize("baseline", ["albef", "xvlm"])


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a checkout's Pretrain.py as a process of its own would: (checkout, flags) -> what it saved and logged."""

    def run(checkout: Path, output: str, *flags: str) -> tuple[dict[str, Any], list[dict[str, float]]]:
        with monkeypatch.context() as patch:
            patch.chdir(checkout)
            patch.setattr(sys, "path", [str(checkout), *sys.path])
            patch.setattr(sys, "argv", ["Pretrain.py", "--output_dir", output, *flags])
            before = set(sys.modules)
            try:
                runpy.run_path("Pretrain.py", run_name="__main__")
            finally:
                for name in set(sys.modules) - before:
                    if name.split(".")[0] == "models":
                        del sys.modules[name]
        saved = torch.load(checkout / output / LAST[checkout.name], weights_only=True)
        return saved, [json.loads(line) for line in (checkout / output / "log.txt").read_text().splitlines()]

    return run


def with_epic(checkout: Path, **keys: str) -> str:
    """A copy of the configuration with other values of EPIC's keys, as a user makes it: its flag's value."""
    text = (checkout / CONFIGS[checkout.name]).read_text()
    for key, value in keys.items():
        lines = [line for line in text.splitlines() if line.strip().startswith(f"{key}:")]
        text = text.replace(lines[0], lines[0].split(":")[0] + f": {value}")
    (checkout / "configs" / "epic.yaml").write_text(text)
    return "configs/epic.yaml"


def checkouts(baseline: str, root: Path) -> tuple[Path, Path]:
    """The stand-in without and with EPIC's lines, both with a text encoder and a pre-trained model."""
    plain, with_lines = (
        standin(baseline, root / "plain" / baseline),
        patched(baseline, standin(baseline, root / "patched" / baseline)),
    )
    for each in (plain, with_lines):
        bert_folder(each / "data" / "bert-base-uncased")
    model = albef(seed=5, **ALBEF_SIZES) if baseline == "albef" else xvlm(seed=5, **XVLM_SIZES)
    torch.save({"model": model.state_dict()}, with_lines / "teacher.pth")
    return plain, with_lines


def flags_of(baseline: str, config: str = "") -> list[str]:
    text = ["--text_encoder", "data/bert-base-uncased"] if baseline == "albef" else []
    return ["--config", config or CONFIGS[baseline], *text]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("baseline", ["albef", pytest.param("xvlm", marks=pytest.mark.slow)])
def test_off_is_the_unpatched_run_to_the_bit_and_remove_gives_back_the_bytes(
    baseline: str, launch: Any, tmp_path: Path
) -> None:
    plain, with_lines = checkouts(baseline, tmp_path)
    saved, log = launch(plain, "out", *flags_of(baseline))
    off, off_log = launch(with_lines, "out", *flags_of(baseline))
    assert off_log == log and len(log) == 2
    assert same(off["model"], saved["model"])
    assert {**off["config"], "epic": 0, "teacher_path": 0} == {**saved["config"], "epic": 0, "teacher_path": 0}
    plan = plan_remove(with_lines, baseline, patch_of(baseline, plain), files_beside(baseline))
    change_files(with_lines, plan.contents)
    source = {name: data for name, data in contents(plain).items() if name.endswith((".py", ".yaml"))}
    assert {name: data for name, data in contents(with_lines).items() if name.endswith((".py", ".yaml"))} == source


@pytest.mark.slow
@EVERY
def test_epic_trains_by_the_checkouts_own_launcher(
    baseline: str, launch: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, checkout = checkouts(baseline, tmp_path)
    monkeypatch.setattr(epic_fusion, "LOG_EVERY", 2)
    keys = {"enabled": "True", "teacher_path": "teacher.pth", "itc_head_lr_mult": "3.0"}
    if baseline == "xvlm":
        keys["on_regions"] = "True"
    config = with_epic(checkout, **keys)
    first, log = launch(checkout, "on", *flags_of(baseline, config))
    state = first["model"]
    assert "epic.head.beta.weight" in state and any(name.startswith("epic.generator.") for name in state)
    assert all(math.isfinite(value) for line in log for value in line.values())
    assert capsys.readouterr().out.count("EPIC step") == 2
    if baseline == "xvlm":
        assert log[0]["train_lr_large"] == pytest.approx(2 * log[0]["train_lr"])
        return
    rates = [group["lr"] for group in first["optimizer"]["param_groups"]]
    assert max(rates) == pytest.approx(3 * rates[0])
    again = ["--checkpoint", "on/checkpoint_00.pth", "--resume", "True"]
    resumed, _ = launch(checkout, "resumed", *flags_of(baseline, config), *again)
    assert same(resumed["model"], state)
    launch(checkout, "warm", *flags_of(baseline, config), "--checkpoint", "teacher.pth")  # a file without EPIC
