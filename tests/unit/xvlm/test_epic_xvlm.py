"""EPIC in X-VLM: Eq. 8 for images and regions, one step of every variant, and what it leaves alone."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.host_waits import HostWaits
from epic_common.saliency import log_saliency, saliency_scores
from epic_common.teacher import SasSnapshot, Teacher
from epic_vlp.fusion_teacher import fusion_layer
from patches.marks import without_blocks
from tests.parity.fixture import FIXTURES, PLAIN, TRAINING_PATH, Fixture
from tests.parity.replays import xvlm_models
from tests.unit.fusion_epic import corruptions_of, plain_epic_losses, planned, read_alike
from tests.unit.xvlm.epic import SIZES, VARIANTS, VOCABULARY, student, teacher
from tests.unit.xvlm.small import CLS, pretraining_batch, region_batch
from vlp.losses.total import losses_of, total_loss
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_passes import Negatives
from vlp.nn.step_plan import step_plan
from xvlm.models import model_pretrain
from xvlm.models.epic_xvlm import EPIC, XvlmTeacher
from xvlm.models.model_pretrain import shown_by

DRAWN = Negatives(torch.tensor([2, 0, 1]), torch.tensor([1, 2, 2]))
DRAWN_REGIONS = Negatives(torch.tensor([1, 0, 3, 4, 2]), torch.tensor([4, 2, 0, 1, 3]))
OWN, BOXES = {"itc_loss", "itm_loss", "mlm_loss"}, {"bbox_loss", "giou_loss"}
ON_REGIONS = {"on_regions": True}
EVERY = pytest.mark.parametrize("preset", VARIANTS)


# Eq. 8 ---------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("mode", [PLAIN, TRAINING_PATH])
@pytest.mark.parametrize("name", ["golden_tiny_pretrain", "golden_tiny_region"])
def test_the_teachers_scores_are_those_of_the_official_model(name: str, mode: str) -> None:
    """docs/official/xvlm.md §10: the arrays ``sal_raw`` (before any mask) and ``sal_alpha``."""
    fixture = Fixture(FIXTURES / "xvlm" / f"{name}.json")
    student = xvlm_models.model_of(fixture, mode)
    model = XvlmTeacher(student.config).eval()
    whole = student.state_dict()
    model.load_state_dict({name: whole[name] for name in model.state_dict()})
    batch = xvlm_models.pretraining_batch(fixture, regions=name.endswith("region"))
    words = batch["text_masks"].bool().clone()
    scores = Teacher(model).saliency(batch)
    words[:, 0] = False
    computed = {"sal_alpha": log_saliency(scores, words).exp()}
    if mode == PLAIN:  # there is nothing at padding otherwise
        computed["sal_raw"] = scores
    for array, value in computed.items():
        assert fixture.compare(array, value.numpy()).passed, array


@torch.no_grad()
@pytest.mark.parametrize("layer", [-3, -2, -1])
@pytest.mark.parametrize("batch_of", [pretraining_batch, region_batch])
def test_the_scores_are_the_formula(batch_of: Any, layer: int) -> None:
    """docs/official/xvlm.md §10, sentence after sentence: queries of its tokens, the key of what it is true of."""
    model, batch = teacher(), batch_of()
    scores = Teacher(model, layer).saliency(batch)
    bert, regions = model.text_encoder.bert, "idx_to_group_img" in batch
    block: Any = bert.layers[layer]
    cross = block.crossattention.self
    assert (cross.heads, cross.query.out_features // cross.heads) == (2, 8)
    encoded = model.vision_encoder(batch["image"])
    for row, (ids, real) in enumerate(zip(batch["text_ids"], batch["text_masks"].sum(dim=1).tolist(), strict=True)):
        image, mask = encoded[row] if not regions else encoded[batch["idx_to_group_img"][row]], None
        if regions:
            mask = batch["image_atts"][row].bool()
            image = torch.cat([image[1:][mask[1:]].mean(dim=0, keepdim=True), image[1:]])
        layout = model.text_layout({"text_masks": torch.ones(1, real)})
        x = bert.text(ids[None, :real], layout)
        seen = Seen(mask=None if mask is None else mask[None])
        x = bert.fuse(x, layout, image[None], seen, stop=5 + layer)
        q, k = cross.query(block.attention(x, x, layout, layout)), cross.key(image[0])
        for place in range(real):
            heads = [float(q[place, 8 * h : 8 * h + 8] @ k[8 * h : 8 * h + 8]) for h in range(2)]
            assert float(scores[row, place]) == pytest.approx(sum(heads) / 2, rel=1e-4, abs=1e-5)


def test_layers_are_counted_among_the_fusion_layers() -> None:
    bert = teacher().text_encoder.bert
    assert [fusion_layer(bert, layer) for layer in (-3, -2, -1, 0, 1, 2)] == [2, 3, 4, 2, 3, 4]
    assert EPIC.fusion_layers(SIZES) == 3


@pytest.mark.parametrize("layer", [-3, -2, -1])
def test_nothing_behind_the_scores_is_computed(layer: int) -> None:
    model, ran = teacher(), list[int]()
    for index, block in enumerate(model.text_encoder.bert.layers):
        block.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    fusion: Any = model.text_encoder.bert.layers[layer]
    asked = list[torch.Size]()
    fusion.crossattention.self.key.register_forward_pre_hook(lambda _, args: asked.append(args[0].shape))
    q, k = model.query_key(pretraining_batch(), layer)
    assert ran == list(range(5 + layer))
    assert [shape[1:] for shape in asked] == [torch.Size([64])]  # of token 0 alone
    assert q.shape == (3, 2, 8) and k.shape == (3, 2, 9, 8)
    assert saliency_scores(q, k)[:, 1:].std() > 0.01


# The step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"image_conditioned": True}], ids=str)
@pytest.mark.parametrize("regions", [False, True])
def test_the_step_adds_the_losses_of_the_method(regions: bool, changes: dict[str, Any]) -> None:
    model = student("epic", {**changes, **(ON_REGIONS if regions else {})})
    batch, negatives = (
        (region_batch((7, 5, 9, 4, 6)), DRAWN_REGIONS) if regions else (pretraining_batch((7, 5, 9)), DRAWN)
    )
    made = corruptions_of(model.epic)
    outputs = losses_of(model(batch, negatives))
    (corruption,) = made
    assert corruption.masked.sum(1).tolist() == [3, 2, 3, 2, 2][: len(made[0].masked)]  # ceil(0.35 * [6, 4, 8, 3, 5])
    assert not corruption.masked[:, 0].any() and corruption.replaced.any()
    with torch.no_grad():
        seen = shown_by(model.vision_encoder, batch)
    drawn = corruption.masked, corruption.input_ids
    expected = plain_epic_losses(model, batch, VOCABULARY, drawn, seen.image, seen.mask)
    for key, value in expected.items():
        assert float(outputs[key].detach()) == pytest.approx(value, rel=1e-5), key
    own = OWN | (BOXES if regions else {"unused_loss"})
    assert outputs.keys() == {*own, *expected, "epic_teacher_guard_loss"}
    vanilla = student()(batch, negatives)
    assert all(torch.allclose(outputs[key], vanilla[key], rtol=1e-6) for key in own)


@EVERY
def test_region_rows_are_left_alone_by_default(preset: str) -> None:
    """Its parameters get gradients of zeros, as the box head's without regions; nothing is drawn."""
    model, batch = student(preset).train(), region_batch()
    state = model.epic.rng_state()
    torch.manual_seed(0)  # of Swin's stochastic depth
    outputs = model(planned(model, batch), DRAWN_REGIONS)
    assert torch.equal(model.epic.rng_state(), state)
    assert outputs["epic_left_out_loss"] == 0
    other = student().train()
    torch.manual_seed(0)
    vanilla = other(planned(other, batch), DRAWN_REGIONS)
    for key in OWN | BOXES:
        assert torch.equal(outputs[key], vanilla[key]), key
    total_loss(outputs).backward()
    trained = [p for p in model.epic.parameters() if p.requires_grad]
    assert trained and all(p.grad is not None and not p.grad.any() for p in trained)


@EVERY
@pytest.mark.parametrize("regions", [False, True])
def test_every_variant_trains_what_it_should(preset: str, regions: bool) -> None:
    sas = {"sas_refresh_steps": 100} if preset == "vlm_sas" else {}
    model = student(preset, {**sas, "on_regions": regions}).train()
    model.trainer = types.SimpleNamespace(global_step=0)  # SAS asks how many steps were done
    frozen = model.epic.teacher or model.epic.snapshot
    outputs = model(planned(model, region_batch() if regions else pretraining_batch()))
    outputs["epic_itc_loss"].backward(retain_graph=True)
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    for part in ("epic.head", "vision_encoder.layers.0", "text_encoder.bert.embeddings", "text_encoder.bert.encoder"):
        assert any(name.startswith(part) for name in trained), part
    assert not any(name.startswith(("epic.generator", "itm_head", "text_encoder.cls", "bbox")) for name in trained)
    model.zero_grad()
    if "epic_gen_loss" in outputs:
        outputs["epic_gen_loss"].backward(retain_graph=True)
        trained = {name for name, p in model.named_parameters() if p.grad is not None}
        assert trained and all(name.startswith("epic.generator") for name in trained)
    model.zero_grad()
    total_loss(outputs).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "generator" not in name)
    if frozen is not None:
        module = frozen.frozen.module if isinstance(frozen, SasSnapshot) else frozen.module
        assert not module.training and not any(p.requires_grad or p.grad is not None for p in module.parameters())
        assert {id(p) for p in module.parameters()}.isdisjoint({id(p) for p in model.parameters()})


@EVERY
@pytest.mark.parametrize("regions", [False, True])
def test_a_planned_batch_has_the_losses_of_any_other_and_asks_for_nothing(preset: str, regions: bool) -> None:
    results = []
    for plan in (False, True):
        torch.manual_seed(0)
        model = student(preset, {"on_regions": regions})
        batch = region_batch() if regions else pretraining_batch((7, 5, 9, 4))
        torch.manual_seed(1)
        given = planned(model, batch) if plan else read_alike(model, batch)
        with HostWaits() as waits:
            outputs = model(given)
            total_loss(outputs).backward()
        results.append((losses_of(outputs), waits.total))
    (expected, asked), (losses, still_asked) = results
    assert asked > 0 and still_asked == 0
    assert losses.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in losses.items())


@pytest.mark.parametrize("changes", [{}, ON_REGIONS, {"append_sep": False}], ids=str)
def test_padding_that_is_computed_changes_no_loss(changes: dict[str, Any]) -> None:
    results = []
    batch, drawn = (region_batch(), DRAWN_REGIONS) if changes == ON_REGIONS else (pretraining_batch(), DRAWN)
    for pack_text in (True, False):
        torch.manual_seed(0)
        model = student("epic", changes, pack_text=pack_text)
        results.append(losses_of(model(planned(model, batch), drawn)))
    torch.testing.assert_close(*results)


def test_the_generator_reads_a_separator_that_nobody_masks_or_judges() -> None:
    losses = []
    for append in (True, False):
        torch.manual_seed(0)
        model = student("epic", {"append_sep": append})
        made = corruptions_of(model.epic)
        losses.append(model(planned(model, pretraining_batch()), DRAWN)["epic_gen_loss"])
        assert made[0].input_ids.shape == made[0].valid.shape == (3, 9)
        assert not (made[0].input_ids == VOCABULARY.sep_id).any()
        assert (made[0].input_ids[:, 0] == CLS).all() and not made[0].valid[:, 0].any()
    assert losses[0] != losses[1]


def test_one_word_or_none_is_judged_or_skipped() -> None:
    """A sentence of [CLS] alone has nothing to mask, and nothing that could be judged."""
    model = student("epic")
    outputs = model(planned(model, pretraining_batch((1, 2, 1), masked=0)), DRAWN)
    assert all(loss.isfinite() for loss in losses_of(outputs).values()) and outputs["epic_itc_loss"] > 0
    nothing = model(planned(model, pretraining_batch((1, 1, 1), masked=0)), DRAWN)
    assert nothing["epic_itc_loss"] == nothing["epic_gen_loss"] == 0


# "VLM (SAS)" ---------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("batch_of", [pretraining_batch, region_batch])
def test_the_snapshots_logits_are_those_of_the_full_pass(batch_of: Any) -> None:
    model, batch = teacher(), batch_of()
    chosen = batch["text_labels_mlm"] != -100
    logits = model.mlm_logits_at(batch, batch["text_ids_mlm"], chosen.flatten().nonzero().squeeze(1))
    plain = teacher(pack_text=False)
    seen, layout = shown_by(plain.vision_encoder, batch), plain.text_layout(batch)
    states = plain.text_encoder.bert(batch["text_ids_mlm"], layout, seen.image, Seen(mask=seen.mask))
    torch.testing.assert_close(logits, plain.text_encoder.logits(states[chosen]))


def test_a_refreshed_snapshot_is_the_student() -> None:
    model, batch = student("vlm_sas"), pretraining_batch()
    assert model.epic.snapshot.maybe_refresh(1, model, 1)
    weights = model.state_dict()
    for name, value in model.epic.snapshot.frozen.module.state_dict().items():
        assert torch.equal(value, weights[name]) and value.data_ptr() != weights[name].data_ptr(), name
    assert losses_of(model(batch, DRAWN))["epic_itc_loss"].isfinite()


# Without EPIC --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [pretraining_batch(), region_batch()], ids=["images", "regions"])
def test_switched_off_or_stripped_it_is_the_vanilla_model_to_the_bit(batch: dict[str, Any]) -> None:
    path = Path(str(model_pretrain.__file__))
    vanilla: Any = types.ModuleType("vanilla")
    exec(compile(without_blocks(path.read_text(encoding="utf-8"), path.name), "vanilla", "exec"), vanilla.__dict__)
    assert student().epic is None
    results = []
    for cls in (model_pretrain.XVLM, vanilla.XVLM):
        torch.manual_seed(0)
        model = cls(student().config).train()
        outputs = model({**batch, **step_plan(batch)})
        total_loss(outputs).backward()
        results.append((losses_of(outputs), {n: p.grad for n, p in model.named_parameters()}, model.state_dict()))
    (losses, grads, state), (others, other_grads, other_state) = results
    assert losses.keys() == others.keys() >= OWN and state.keys() == other_state.keys()
    assert all(torch.equal(losses[name], others[name]) for name in losses)
    assert all(torch.equal(state[name], other_state[name]) for name in state)
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, other_grads[name], rtol=0, atol=0)
