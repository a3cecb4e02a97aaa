"""EPIC in patched checkouts of ALBEF and X-VLM, on stand-ins: optimiser groups, resumption, checkpoints, refusals."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import epic_albef
import epic_fusion
import epic_xvlm
import pytest
import torch
from torch import nn

from albef.models.checkpoints import load_checkpoint as load_albef
from tests.unit.albef import epic as albef_epic
from tests.unit.albef import small as albef_small
from tests.unit.patches_official.fusion_fakes import OfficialAlbef, OfficialXvlm
from tests.unit.patches_official.fusion_models import albef, albef_step, folder, watched, xvlm, xvlm_step
from tests.unit.xvlm import epic as xvlm_epic
from tests.unit.xvlm import small as xvlm_small
from xvlm.models.checkpoints import load_checkpoint as load_xvlm

__all__ = ["albef", "folder", "xvlm"]  # fixtures

# The launcher --------------------------------------------------------------------------------------------


def groups_of(model: Any) -> list[dict[str, Any]]:
    """Four groups, as X-VLM's launcher makes them, and the third not empty."""
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": rate, "weight_decay": d} for rate in (1e-4, 2e-4) for d in (1, 0)
    ]
    for name, p in model.named_parameters():
        if p.requires_grad:
            groups[2 * ("proj" in name) + ("bias" in name)]["params"].append(p)
    return groups


@pytest.mark.parametrize("name", ["albef", "xvlm"])
def test_epics_parameters_get_groups_of_their_own_behind_the_official_ones(name: str, request: Any) -> None:
    model = request.getfixturevalue(name)(generator_lr_mult=0.5)
    support, head_factor = (epic_albef, 1) if name == "albef" else (epic_xvlm, 2)
    optimizer = torch.optim.AdamW(groups_of(model))
    before = [len(group["params"]) for group in optimizer.param_groups]
    wrapped = nn.DataParallel(model)
    support.add_groups({"a": model, "b": wrapped, "optimizer": optimizer, "again": optimizer, "c": 1})
    assert [group["lr"] for group in optimizer.param_groups[:4]] == [1e-4, 1e-4, 2e-4, 2e-4]
    own_names = {id(p): key for key, p in model.epic.named_parameters()}
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == sum(before) == len(rates)
    assert not any(id(p) in own_names for group in optimizer.param_groups[:4] for p in group["params"])
    for key, p in model.epic.named_parameters():
        factor = head_factor if key.startswith("head") else 0.5
        assert rates[id(p)] == pytest.approx((1e-4 * factor, 0 if "bias" in key else 1)), key


def test_a_launcher_that_is_another_is_refused_in_one_line(albef: Any, xvlm: Any) -> None:
    model, other = albef(), albef()
    optimizer = torch.optim.AdamW(model.parameters())
    for scope, message in (
        ({"model": model}, "sees 0 optimisers"),
        ({"model": model, "a": optimizer, "b": torch.optim.AdamW(model.parameters())}, "sees 2 optimisers"),
        ({"model": model, "a": torch.optim.AdamW(model.itm_head.parameters())}, "has not .* of EPIC's parameters"),
        ({"model": model, "other": other, "a": optimizer}, "2 models with EPIC"),
    ):
        with pytest.raises(RuntimeError, match=message):
            epic_albef.add_groups(scope)
    with pytest.raises(RuntimeError, match=r"`epic_albef.add_groups\(locals\(\)\)` of Pretrain.py did not run"):
        albef_step(model.train(), albef_epic.batch_of())
    with pytest.raises(RuntimeError, match=r"`epic_xvlm.add_groups"):
        xvlm_step(xvlm().train(), xvlm_small.pretraining_batch())


def launched(model: Any) -> torch.optim.Optimizer:
    """The lines of Pretrain.py before the first step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    epic_albef.add_groups({"model": model, "optimizer": optimizer})
    return optimizer


def stepped(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    made = watched(model.train())
    optimizer.zero_grad()
    albef_step(model, albef_epic.batch_of()).backward()
    optimizer.step()
    return {name: float(value.detach()) for name, value in made[-1].items()}


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "refreshed"), [("epic", 0), ("vlm_sas", 2)])
def test_a_resumed_albef_goes_on_as_if_it_had_not_stopped(
    albef: Any, preset: str, refreshed: int, tmp_path: Path
) -> None:
    model = albef(preset, generator_dropout=False)
    optimizer = launched(model)
    first, second = stepped(model, optimizer), stepped(model, optimizer)
    assert first != second
    epic_albef.end_epoch()
    if refreshed:
        assert model.epic.snapshot.refreshed_at == refreshed
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint_00.pth")
    expected = stepped(model, optimizer)

    def started(resume: bool) -> dict[str, float]:
        again, saved = (
            albef(preset, generator_dropout=False),
            torch.load(tmp_path / "checkpoint_00.pth", weights_only=True),
        )
        own_optimizer = launched(again)
        again.load_state_dict(saved["model"])
        if resume:
            own_optimizer.load_state_dict(saved["optimizer"])
        losses = stepped(again, own_optimizer)
        assert again.epic.steps == (3 if resume else 1)
        return losses

    assert started(resume=True) == expected
    assert started(resume=False)["epic_itc_loss"] != expected["epic_itc_loss"], "draws from the beginning"


@pytest.mark.slow
def test_a_resumed_albef_needs_its_own_teacher(albef: Any, folder: Path) -> None:
    model = albef()
    optimizer = launched(model)
    stepped(model, optimizer)
    epic_albef.end_epoch()
    torch.save({"model": albef_small.pretraining(seed=6, **albef_epic.SIZES).state_dict()}, folder / "another.pth")
    again = albef(file="another.pth")
    other = launched(again)
    again.load_state_dict(model.state_dict())
    other.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match="give the same teacher_path"):
        stepped(again, other)


@pytest.mark.slow
def test_a_file_without_epic_leaves_its_parts_alone_and_one_with_others_is_refused(albef: Any) -> None:
    model = albef()
    before = copy.deepcopy(model.epic.state_dict())
    vanilla = {name: value for name, value in model.state_dict().items() if not name.startswith("epic.")}
    model.load_state_dict(vanilla)
    assert all(torch.equal(value, model.epic.state_dict()[name]) for name, value in before.items())
    with pytest.raises(RuntimeError, match=r"Missing key.*epic\.generator"):
        model.load_state_dict(albef("itc_rand").state_dict())


@pytest.mark.slow
def test_a_checkpoint_of_a_checkout_is_one_of_the_baselines_here(albef: Any, xvlm: Any, tmp_path: Path) -> None:
    trained = albef()
    stepped(trained, launched(trained))
    epic_albef.end_epoch()
    for model, ours, load in (
        (trained, albef_epic.student(), load_albef),
        (xvlm(), xvlm_epic.student(), load_xvlm),
    ):
        torch.save({"model": model.state_dict(), "config": {}}, tmp_path / "checkout.pth")
        load(ours, tmp_path / "checkout.pth", "pretrain")
        theirs = model.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items())


@pytest.mark.slow
def test_a_snapshot_of_xvlm_is_renewed_after_the_batches_of_an_epoch(xvlm: Any) -> None:
    model = xvlm("vlm_sas")
    epic_xvlm.add_groups({"model": model, "optimizer": torch.optim.AdamW(groups_of(model))})
    for _ in range(3):
        xvlm_step(model.train(), xvlm_small.pretraining_batch())
        xvlm_step(model, xvlm_small.region_batch())
    assert model.epic.steps == 3 and model.epic.snapshot.refreshed_at == 2


@pytest.mark.slow
def test_metrics_are_printed_as_training_goes_on(albef: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epic_fusion, "LOG_EVERY", 2)
    model = albef()
    optimizer = launched(model)
    for _ in range(3):
        stepped(model, optimizer)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("EPIC")]
    assert line.startswith("EPIC step 2  epic_") and "epic_itc: " in line


# Refusals ------------------------------------------------------------------------------------------------


def test_what_cannot_be_run_is_refused_in_one_line(albef: Any, xvlm: Any, folder: Path) -> None:
    torch.save(
        {"model": albef_small.pretraining(**{**albef_epic.SIZES, "image_res": 24}).state_dict()}, folder / "24.pth"
    )
    torch.save({"model": {}}, folder / "empty.pth")
    torch.save({"state_dict": {}}, folder / "meter.pth")
    (folder / "text.pth").write_text("no checkpoint")
    for build, message, given in (
        (albef, "lacks 'visual_encoder.pos_embed'", {"file": "24.pth"}),
        (albef, "lacks 'visual_encoder", {"file": "empty.pth"}),
        (xvlm, "lacks 'vision_encoder", {"file": "albef.pth"}),
        (albef, "meter.pth is no checkpoint of the pre-training", {"file": "meter.pth"}),
        (albef, "text.pth is no checkpoint of the pre-training", {"file": "text.pth"}),
        (xvlm, "none.pth: no such file", {"file": "none.pth"}),
        (albef, r"epic.saliency_layer is -4; the model has 3", {"saliency_layer": -4}),
        (xvlm, "the nearest is epic.mask_ratio", {"mask_rati": 0.3}),
        (albef, "epic.on_regions is not a field", {"on_regions": True}),
    ):
        with pytest.raises(ValueError, match=message):
            build(**given)
    config = {**xvlm_small.config_of(**xvlm_epic.SIZES), "epic": {"enabled": True, "teacher": "momentum"}}
    with pytest.raises(ValueError, match=r"epic\.teacher='momentum' is not possible in an official checkout"):
        epic_xvlm.attach(OfficialXvlm(config), config)
    config = {**albef_small.config_of(), "text_encoder": "", "epic": {"enabled": True}, "teacher_path": "x"}
    with pytest.raises(ValueError, match=r"needs the name or folder of the text encoder: add `text_encoder"):
        epic_albef.attach(OfficialAlbef(config), config)
