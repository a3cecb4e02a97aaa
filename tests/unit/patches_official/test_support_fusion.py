"""EPIC in patched checkouts of ALBEF and X-VLM, on stand-ins, against our own EPIC with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import epic_albef
import epic_fusion
import epic_xvlm
import pytest
import torch
from torch import Tensor, nn

from epic_common.config import RegionEpicConfig
from epic_common.saliency import saliency_scores
from tests.parity.fixture import FIXTURES, PLAIN, Fixture
from tests.parity.replays import albef_models, xvlm_models
from tests.unit.albef import epic as albef_epic
from tests.unit.albef import small as albef_small
from tests.unit.fusion_epic import planned
from tests.unit.patches_official.fusion_fakes import OfficialAlbef, OfficialXvlm
from tests.unit.patches_official.fusion_models import Losses, albef, albef_step, folder, own, watched, xvlm, xvlm_step
from tests.unit.small_parts import Batch, gradients
from tests.unit.xvlm import epic as xvlm_epic
from tests.unit.xvlm import small as xvlm_small

__all__ = ["albef", "folder", "xvlm"]  # fixtures


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
        support, array, batch = epic_albef, "step0.saliency_score", dict(albef_models.pretraining_batch(fixture))
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
