"""EPIC in patched checkouts of ALBEF and X-VLM, on stand-ins, against our own EPIC with the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import epic_albef
import epic_fusion
import epic_xvlm
import pytest
import torch
from torch import Tensor, nn

from albef.models.checkpoints import load_checkpoint as load_albef
from epic_common.config import PRESETS, EpicConfig, RegionEpicConfig
from epic_common.saliency import saliency_scores
from tests.parity.fixture import FIXTURES, PLAIN, Fixture
from tests.parity.replays import albef_models, xvlm_models
from tests.unit.albef import epic as albef_epic
from tests.unit.albef import small as albef_small
from tests.unit.fusion_epic import planned
from tests.unit.patches_official.fusion_fakes import OfficialAlbef, OfficialXvlm, bert_folder
from tests.unit.small_parts import Batch, gradients
from tests.unit.xvlm import epic as xvlm_epic
from tests.unit.xvlm import small as xvlm_small
from xvlm.models.checkpoints import load_checkpoint as load_xvlm


def variants(names: list[tuple[str, dict[str, Any]]], fast: set[str]) -> Any:
    """Every variant; in the fast suite those that take ways of their own through the support files."""
    marks: dict[bool, Any] = {True: (), False: pytest.mark.slow}
    every = [
        pytest.param(name, keys, id="-".join([name, *keys]), marks=marks["-".join([name, *keys]) in fast])
        for name, keys in names
    ]
    return pytest.mark.parametrize(("preset", "epic"), every)


ALBEF_VARIANTS = variants(albef_epic.VARIANTS, {"epic-teacher", "vlm_sas"})
XVLM_VARIANTS = variants(
    [*((name, {}) for name in xvlm_epic.VARIANTS), ("epic", {"on_regions": True}), ("vlm_sas", {"on_regions": True})],
    {"vlm_sas-on_regions"},
)
LAYERS = pytest.mark.parametrize(
    "layer", [-2, pytest.param(-3, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow)]
)
Losses = dict[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusion")
    bert_folder(folder / "text")
    torch.save({"model": albef_small.pretraining(seed=5, **albef_epic.SIZES).state_dict()}, folder / "albef.pth")
    torch.save({"model": xvlm_small.pretraining(seed=5, **xvlm_epic.SIZES).state_dict()}, folder / "xvlm.th")
    return folder


def keys_of(folder: Path, settings: Any, preset: str, file: str, epic: dict[str, Any]) -> dict[str, Any]:
    own = {**PRESETS[preset], **({"generator": str(folder / "text")} if preset == "lm_trained" else {})}
    keys = {**settings().to_dict(), "append_sep": True, **own, **epic}
    return {"epic": keys, "teacher_path": str(folder / file)}


@pytest.fixture
def albef(folder: Path) -> Callable[..., Any]:
    """(preset, epic.* keys) -> a patched ALBEF with the weights of ours."""

    def build(preset: str = "epic", file: str = "albef.pth", **epic: Any) -> Any:
        keys = keys_of(folder, EpicConfig, preset, file, epic)
        config = {**albef_small.config_of(**albef_epic.SIZES), **keys, "optimizer": {"lr": 1e-4}, "text_encoder": ""}
        model = OfficialAlbef(config, str(folder / "text"))
        epic_albef.attach(model, config)
        model.load_state_dict(albef_small.pretraining(**albef_epic.SIZES).state_dict())
        return model.eval()

    return build


@pytest.fixture
def xvlm(folder: Path) -> Callable[..., Any]:
    """(preset, epic.* keys) -> a patched X-VLM with the weights of ours."""

    def build(preset: str = "epic", file: str = "xvlm.th", **epic: Any) -> Any:
        keys = keys_of(folder, RegionEpicConfig, preset, file, epic)
        sizes = {"train_dataset_size": 6, "images": {"batch_size": 3}, "text_encoder": str(folder / "text")}
        config = {**xvlm_small.config_of(**xvlm_epic.SIZES), **keys, **sizes}
        model = OfficialXvlm(config)
        epic_xvlm.attach(model, config)
        model.load_state_dict(xvlm_small.pretraining(**xvlm_epic.SIZES).state_dict())
        return model.eval()

    return build


def watched(model: Any) -> list[Losses]:
    """What EPIC's losses of the model are from now on."""
    made, losses = list[Losses](), model.epic.losses

    def keep(*args: Any) -> Losses:
        made.append(losses(*args))
        return made[-1]

    model.epic.losses = keep
    return made


def albef_step(model: Any, batch: Batch, loss: Tensor | None = None) -> Tensor:
    """What the inserted line gives, on the states that the official forward has there."""
    text = SimpleNamespace(input_ids=batch["text_ids"], attention_mask=batch["text_masks"])
    with torch.no_grad():
        image_m = model.visual_encoder_m(batch["image"])
    loss = torch.zeros(()) if loss is None else loss
    return epic_albef.add_losses(loss, model, batch["image"], text, model.visual_encoder(batch["image"]), image_m)


def xvlm_step(model: Any, batch: Batch, loss: Tensor | None = None) -> Tensor:
    """What forward's first loss is after the inserted line and the hook."""
    epic_xvlm.keep_losses(model, model.encoded(batch))
    first, second = epic_xvlm._add_losses(model, None, (torch.zeros(()) if loss is None else loss, 2))
    assert second == 2
    return first


def own(made: Any, patched: Any) -> Any:
    """Our model ``made`` with all weights those of ``patched``."""
    made.epic.generator = copy.deepcopy(patched.epic.generator)
    made.load_state_dict({name: t for name, t in patched.state_dict().items() if "_extra_state" not in name})
    mine, frozen = made.epic.teacher or made.epic.snapshot, patched.epic.teacher or patched.epic.snapshot
    if mine is not None:
        mine, frozen = getattr(mine, "frozen", mine), getattr(frozen, "frozen", frozen)
        mine.module.load_state_dict(frozen.module.state_dict())
    return made


# Eq. 8 ---------------------------------------------------------------------------------------------------


def same_scores(frozen: Any, mine: Any, student: Any, batch: Batch, layer: int) -> None:
    mine.load_state_dict(frozen.state_dict())
    seen = {"image_atts": torch.ones(3, 10, dtype=torch.long), "images": batch.get("idx_to_group_img")}
    with torch.no_grad():
        got = saliency_scores(*frozen.query_key({**seen, **batch}, layer))
        wanted = saliency_scores(*mine.query_key(planned(student, batch), layer))
    real = batch["text_masks"].bool()
    assert float(got[real].std()) > 0.01 and torch.allclose(got[real], wanted[real], atol=1e-5)


@pytest.mark.slow
@LAYERS
def test_albefs_hooks_find_what_our_own_teacher_gives(albef: Any, layer: int) -> None:
    batch = albef_epic.batch_of()
    same_scores(albef().epic.teacher.model, albef_epic.teacher(), albef_epic.student(), batch, layer)


@LAYERS
@pytest.mark.parametrize("batch_of", [xvlm_small.pretraining_batch, xvlm_small.region_batch])
def test_xvlms_hooks_find_what_our_own_teacher_gives(xvlm: Any, layer: int, batch_of: Any) -> None:
    same_scores(xvlm().epic.teacher.model, xvlm_epic.teacher(), xvlm_epic.student(), batch_of(), layer)


@torch.no_grad()
@pytest.mark.parametrize("name", ["albef", "xvlm"])
def test_hooks_find_the_golden_scores(name: str) -> None:
    """Numbers of the official code (docs/official/albef.md §10, docs/official/xvlm.md §10), before any mask."""
    fixture = Fixture(FIXTURES / name / "golden_tiny_pretrain.json")
    if name == "albef":
        model: Any = albef_models.model_of(OfficialAlbef, fixture, PLAIN)
        support, array, batch = epic_albef, "step0.saliency_score", albef_models.pretraining_batch(fixture)
    else:
        model = xvlm_models.model_of(fixture, PLAIN, OfficialXvlm)
        support, array, batch = epic_xvlm, "sal_raw", xvlm_models.pretraining_batch(fixture)
        batch |= {"images": None, "image_atts": torch.ones(3, 10, dtype=torch.long)}
    frozen = epic_fusion.frozen_encoders(model, support.Questions, support.ENCODERS)
    assert fixture.compare(array, saliency_scores(*frozen.query_key(batch, -2))).passed


def test_a_frozen_model_is_of_the_checkouts_class_and_has_its_two_encoders_alone(albef: Any, xvlm: Any) -> None:
    for model, encoders in ((albef(), epic_albef.ENCODERS), (xvlm(), epic_xvlm.ENCODERS)):
        frozen = model.epic.teacher.model
        assert isinstance(frozen, type(model)) and {n.split(".")[0] for n in frozen.state_dict()} == set(encoders)
        assert not any(p.requires_grad for p in frozen.parameters()) and not frozen.training
        assert not {id(p) for p in frozen.parameters()} & {id(p) for p in model.parameters()}
        assert not any("teacher" in name for name in model.state_dict())


# The step ------------------------------------------------------------------------------------------------


def same_step(patched: Any, mine: Any, step: Callable[..., Tensor], batch: Batch, wanted: Losses) -> None:
    """The same losses, and in the returned loss their gradient and no value."""
    made = watched(patched)
    loss = step(patched, batch)
    (got,) = made
    assert got.keys() == wanted.keys() and "epic_itc_loss" in got
    for name, value in got.items():
        assert torch.allclose(value, wanted[name], atol=1e-5), name
    assert loss.item() == 0
    theirs, mine_too = gradients(mine, wanted), gradients(patched, {"loss": loss})
    assert float(theirs["epic.head.beta.weight"].abs().max()) > 0
    for name, gradient in theirs.items():
        assert torch.allclose(mine_too[name], gradient, atol=1e-4 * (1 + float(gradient.abs().max()))), name


@ALBEF_VARIANTS
def test_albefs_losses_and_gradients_are_those_of_our_own_epic(albef: Any, preset: str, epic: Any) -> None:
    batch, patched = albef_epic.batch_of(), albef(preset, **epic)
    mine = own(albef_epic.student(preset, epic, momentum=1.0), patched)  # a stand-in's momentum models stay
    outputs = mine(planned(mine, batch), 0.4)
    same_step(patched, mine, albef_step, batch, {n: v for n, v in outputs.items() if n.startswith("epic_")})


@XVLM_VARIANTS
def test_xvlms_losses_and_gradients_are_those_of_our_own_epic(xvlm: Any, preset: str, epic: Any) -> None:
    batch = xvlm_small.region_batch() if epic else xvlm_small.pretraining_batch()
    patched = xvlm(preset, **epic)
    mine = own(xvlm_epic.student(preset, epic), patched)
    outputs = mine(planned(mine, batch))
    same_step(patched, mine, xvlm_step, batch, {n: v for n, v in outputs.items() if n.startswith("epic_")})


def test_a_loss_keeps_its_value_to_the_bit_and_its_own_gradient(albef: Any, xvlm: Any) -> None:
    for model, step, batch in (
        (albef(), albef_step, albef_epic.batch_of()),
        (xvlm(), xvlm_step, xvlm_small.pretraining_batch()),
    ):
        own_loss = torch.tensor(1.1, requires_grad=True)
        loss = step(model, batch, own_loss * 3)
        assert torch.equal(loss, own_loss * 3)
        loss.backward()
        assert own_loss.grad == 3 and all(p.grad is not None for p in model.epic.parameters() if p.requires_grad)


def test_a_loss_that_is_not_finite_shows(albef: Any) -> None:
    model = albef()
    nn.init.constant_(model.epic.head.beta.weight, float("nan"))
    assert albef_step(model, albef_epic.batch_of()).isnan()


def test_texts_of_regions_are_left_out_with_gradients_of_zeros(xvlm: Any) -> None:
    model = xvlm()
    made = watched(model)
    found = gradients(model, {"loss": xvlm_step(model, xvlm_small.region_batch())})
    assert not made and not any(bool(gradient.any()) for gradient in found.values())
    assert all(p.grad is not None for p in model.epic.parameters() if p.requires_grad)


def test_xvlms_forward_carries_the_losses_or_says_what_is_wrong(xvlm: Any) -> None:
    class Official(OfficialXvlm):
        def forward(self, batch: Batch, line: bool = True) -> Any:  # type: ignore[override]
            if line:
                epic_xvlm.keep_losses(self, self.encoded(batch))
            return self.returned

    model, batch = xvlm(), xvlm_small.pretraining_batch()
    model.__class__ = Official
    model.returned = (torch.ones(()), torch.ones(()), torch.ones(()))
    losses = model(batch)
    assert [loss.item() for loss in losses] == [1, 1, 1] and [loss.requires_grad for loss in losses] == [True, 0, 0]
    with pytest.raises(RuntimeError, match=r"keep_losses.* did not run"):
        model(batch, line=False)
    for returned in ({"loss": torch.ones(())}, torch.ones(()), (torch.ones(2), 0)):
        model.returned = returned
        with pytest.raises(RuntimeError, match="no tuple of losses"):
            model(batch)


def test_scores_stay_float32_where_matrix_products_are_made_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Apex's O1 makes them: it replaces functions of torch, which autocast's guard does not know of."""
    q, k = 100 * torch.randn(2, 4, 8), 100 * torch.randn(2, 4, 5, 8)
    wanted = saliency_scores(q, k)

    def in_half(function: Any) -> Any:
        return lambda *given, **named: function(*(g.half() if isinstance(g, Tensor) else g for g in given), **named)

    for owner in (torch, torch.Tensor):
        for name in ("matmul", "mm", "bmm", "mv", "addmm", "baddbmm"):
            monkeypatch.setattr(owner, name, in_half(getattr(owner, name)))
    monkeypatch.setattr(torch.Tensor, "__matmul__", torch.Tensor.matmul)
    assert (q[0] @ q[0].T).dtype == torch.half
    assert torch.equal(saliency_scores(q, k), wanted) and saliency_scores(q, k).dtype == torch.float32


# Off -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys", [{}, {"epic": RegionEpicConfig().to_dict(), "teacher_path": ""}], ids=["absent", "off"]
)
def test_off_is_what_it_was(keys: dict[str, Any]) -> None:
    loss = torch.tensor(2.0)
    for support, model in (
        (epic_albef, OfficialAlbef({**albef_small.config_of(), **keys})),
        (epic_xvlm, OfficialXvlm({**xvlm_small.config_of(), **keys})),
    ):
        names, random = list(model.state_dict()), torch.random.get_rng_state()
        support.attach(model, model.config)
        assert list(model.state_dict()) == names and not model._forward_hooks
        assert torch.equal(torch.random.get_rng_state(), random)
        optimizer = torch.optim.AdamW(model.parameters())
        support.add_groups({"model": model, "optimizer": optimizer, "other": optimizer})
        assert len(optimizer.param_groups) == 1
    epic_albef.end_epoch()
    assert epic_albef.add_losses(loss, OfficialAlbef(albef_small.config_of()), loss, None, loss, loss) is loss
    epic_xvlm.keep_losses(OfficialXvlm(xvlm_small.config_of()), {})


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
        (xvlm, "none.pth is no checkpoint of the pre-training .*No such file", {"file": "none.pth"}),
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
