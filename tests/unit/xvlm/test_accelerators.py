"""Precision, loss scaling and NVIDIA's apex, which a package with its interface stands for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

from tests.launch.test_resume import tensors
from tests.unit.xvlm.small_runs import built, config_of, write_data
from vlp.training.run import train
from vlp.yaml_dialect.launch import Processes
from xvlm import accelerators
from xvlm.accelerators import apex as apex_module
from xvlm.accelerators import settings_of
from xvlm.accelerators.bounded_scaler import BoundedScaler

STUBS = Path(__file__).parent / "stubs"
ONE = Processes(None, 1, 1)
APEX = {"backend": "apex"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_data(folder)
    return folder


@pytest.fixture
def amp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``apex.amp`` of the package that stands for NVIDIA's, which needs no GPU."""
    monkeypatch.setattr(apex_module, "_on_gpu", lambda config: True)
    monkeypatch.syspath_prepend(str(STUBS / "nvidia"))
    forget_apex()
    found = importlib.import_module("apex.amp")
    found.calls.clear()
    yield found
    forget_apex()


def forget_apex() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "apex"]:
        del sys.modules[name]


# Native ----------------------------------------------------------------------------------------------------------


def test_the_block_says_how_a_stage_computes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(folder, accelerator={"CLIP_GRAD_NORM": 0.3, "SYNCBN": True})
    settings = settings_of(config, ONE)
    assert (settings.precision, settings.clip_norm, settings.sync_batchnorm) == ("32-true", 0.3, True)
    assert settings.precision_plugin is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for given, most in (("dynamic", 1024.0), (128.0, 128.0)):
        half = config_of(folder, precision=None, device="cuda", accelerator={"FP16_LOSS_SCALE": given})
        plugin = settings_of(half, ONE).precision_plugin
        assert isinstance(plugin, MixedPrecision) and isinstance(plugin.scaler, BoundedScaler)
        assert plugin.scaler.get_scale() == most
    assert settings_of({**half, "precision": 32}, ONE).precision_plugin is None


def test_fine_tuning_clips_nothing(folder: Path) -> None:
    config = {name: value for name, value in config_of(folder).items() if name != "accelerator"}
    assert settings_of(config, ONE).clip_norm == 0 and settings_of(config, ONE).precision_plugin is None


@pytest.mark.parametrize(("given", "low", "high"), [("dynamic", 1.0, 1024.0), (64.0, 64.0, 64.0)])
def test_the_loss_scale_stays_within_its_bounds(given: Any, low: float, high: float) -> None:
    scaler = BoundedScaler(given, device="cpu")
    scaler.set_growth_interval(2)
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    found = []
    for step in range(16):
        optimizer.zero_grad()
        scaler.scale((weight * (torch.inf if step < 12 else 1.0)).sum()).backward()
        before = weight.item()
        scaler.step(optimizer)
        scaler.update()
        assert (weight.item() == before) == (step < 12)  # an overflow is no step
        found.append(scaler.get_scale())
    expected = [max(low, min(high, 1024.0 / 2 ** (step + 1))) for step in range(12)] + [low, *[min(2 * low, high)] * 2]
    assert found[:15] == expected
    for _ in range(100):
        scaler.scale(weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == high


# apex ------------------------------------------------------------------------------------------------------------


def run(config: dict[str, Any]) -> dict[str, Any]:
    """A run to its end -> its last.ckpt."""
    made = built(config)
    train(made.run, config, config["seed"])
    return torch.load(Path(config["output_dir"]) / "checkpoints/last.ckpt", weights_only=True)


def test_apex_is_set_up_as_officially_and_trains(amp: Any, folder: Path, tmp_path: Path) -> None:
    """Powers of two as loss scales change no number, and clipping sees gradients without them."""
    keys: dict[str, Any] = {"max_steps": 6, "optimizer": {"lr": 1e-3}}
    native = run(config_of(folder, output_dir=str(tmp_path / "native"), **keys))
    found = run(config_of(folder, output_dir=str(tmp_path / "apex"), accelerator=APEX, precision=None, **keys))
    assert amp.calls == [
        (
            "initialize",
            {
                **{"opt_level": "O1", "wrapped": False, "keep_batchnorm_fp32": None, "loss_scale": "dynamic"},
                **{"max_loss_scale": 1024.0, "min_loss_scale": 1.0},
            },
        )
    ]
    for name, value in native["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], value, rtol=1e-5, atol=1e-7)
    assert found["ApexPrecision"] == {"amp": {"loss_scaler0": {"loss_scale": 1024.0, "unskipped": 6}}}


def test_a_run_with_apex_goes_on_to_the_bit(amp: Any, folder: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"accelerator": APEX, "precision": None, "resume_from": "auto"}
    whole = run(config_of(folder, output_dir=str(tmp_path / "whole"), max_steps=8, **keys))
    for end in (3, 8):
        broken = run(config_of(folder, output_dir=str(tmp_path / "broken"), max_steps=end, **keys))
    ours, theirs = tensors(broken), tensors(whole)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert broken["ApexPrecision"] == whole["ApexPrecision"]


def test_an_overflow_skips_the_step_and_lowers_the_scale(
    amp: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(folder, output_dir=str(tmp_path), accelerator=APEX, precision=None, max_steps=1)
    made = built(config)
    before = {name: p.detach().clone() for name, p in made.run.model.named_parameters()}
    made.run.model.get_parameter("temp").register_hook(lambda grad: grad * torch.inf)
    train(made.run, config, config["seed"])
    assert amp.calls[1:] == [("overflow", 1024.0)] and amp.state["loss_scale"] == 512
    assert all(torch.equal(p, before[name]) for name, p in made.run.model.named_parameters())


def test_float32_masters_of_float16_weights_are_kept(amp: Any) -> None:
    plugin = apex_module.ApexPrecision(importlib.import_module("apex"), "O2", "dynamic")
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    plugin.connect(layer, [optimizer], [])
    saved = plugin.state_dict()
    expected = [p.detach().clone() for p in layer.parameters()]
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1)
    plugin.load_state_dict(saved)
    assert all(map(torch.equal, layer.parameters(), expected))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (None, "there is no package apex"),
        ("unrelated", r".*unrelated/apex/__init__.py has no apex.amp: .*PyPI's apex, another project"),
    ],
)
def test_without_nvidias_apex_one_line_says_what_to_do(
    path: str | None, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apex_module, "_on_gpu", lambda config: True)
    forget_apex()
    if path is None:
        monkeypatch.setitem(sys.modules, "apex", None)
    else:
        monkeypatch.syspath_prepend(str(STUBS / path))
    with pytest.raises(SystemExit, match=f"error: accelerator.backend=apex: {said}.*accelerator.backend=native"):
        or_exit(config_of(folder, accelerator=APEX, precision=None))
    forget_apex()


def test_what_apex_cannot_do_is_refused(amp: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="error: shard_optimizer=True"):
        or_exit(config_of(folder, accelerator=APEX, precision=None, shard_optimizer=True))
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="computes on GPUs alone"):
        or_exit(config_of(folder, accelerator=APEX, precision=None))


def or_exit(config: dict[str, Any]) -> None:
    from vlp.training.run import or_exit as ended

    ended(lambda: accelerators.settings_of(config, ONE))
