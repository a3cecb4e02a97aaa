"""EPIC in ALBEF: Eq. 8 by teacher and momentum model, one step of every variant, and what it leaves alone."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch

from albef.models import model_pretrain
from albef.models.epic_albef import EPIC, AlbefTeacher
from benchmarks.host_waits import HostWaits
from epic_common.saliency import log_saliency
from epic_common.teacher import SasSnapshot, Teacher
from epic_vlp.fusion_teacher import fusion_layer
from patches.marks import without_blocks
from tests.parity.fixture import FIXTURES, PLAIN, TRAINING_PATH, Fixture
from tests.parity.replays import albef_models
from tests.unit.albef.epic import IDS, SIZES, VARIANTS, VOCABULARY, batch_of, student, teacher
from tests.unit.fusion_epic import corruptions_of, plain_epic_losses, planned, read_alike
from vlp.losses.total import losses_of, total_loss
from vlp.nn.fusion_passes import Negatives
from vlp.nn.packed_text import TextPlan
from vlp.nn.step_plan import step_plan

DRAWN = Negatives(torch.tensor([2, 0, 1]), torch.tensor([1, 2, 2]))
OWN = ("mlm_loss", "ita_loss", "itm_loss")
EVERY = pytest.mark.parametrize(("preset", "changes"), VARIANTS, ids=IDS)


# Eq. 8 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [PLAIN, TRAINING_PATH])
def test_the_teachers_scores_are_those_of_the_official_model(mode: str) -> None:
    """docs/official/albef.md §10: arrays ``saliency_score`` (before any mask) and ``saliency_alpha``."""
    fixture = Fixture(FIXTURES / "albef" / "golden_tiny_pretrain.json")
    model = AlbefTeacher(albef_models.config_of(fixture, mode))
    whole = fixture.fill(model_pretrain.ALBEF(model.config).state_dict())
    model.load_state_dict({name: whole[name] for name in model.state_dict()})
    batch = albef_models.pretraining_batch(fixture)
    words = batch["text_masks"].bool().clone()
    scores = Teacher(model).saliency(batch)
    words[:, 0] = False
    computed = {"step0.saliency_alpha": log_saliency(scores, words).exp()}
    if mode == PLAIN:  # there is nothing at padding otherwise
        computed["step0.saliency_score"] = scores
    for name, value in computed.items():
        assert fixture.compare(name, value.numpy()).passed, name


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
    keys = fusion.crossattention.self.key
    asked = list[torch.Size]()
    keys.register_forward_pre_hook(lambda _, args: asked.append(args[0].shape))
    q, k = model.query_key(batch_of(), layer)
    assert ran == list(range(5 + layer))
    assert [shape[1:] for shape in asked] == [torch.Size([24])]  # of token 0 alone
    assert q.shape == (3, 2, 8) and k.shape == (3, 2, 9, 8)


@torch.no_grad()
@pytest.mark.parametrize("layer", [-3, -2, -1])
def test_the_momentum_teacher_is_a_frozen_copy_of_the_momentum_weights(layer: int) -> None:
    model, batch = student("epic", {"teacher": "momentum", "saliency_layer": layer}), batch_of()
    layout = model.text_layout(TextPlan.of(batch["text_masks"]))
    states = model.momentum_states(batch["image"], [batch["text_ids"], batch["text_ids_mlm"]], layout)
    further, scores = model.epic.momentum_scores(model, states, layout)
    copied = teacher()
    weights = model.state_dict()
    copied.load_state_dict({n: weights[n.replace("encoder.", "encoder_m.", 1)] for n in copied.state_dict()})
    expected = Teacher(copied, layer).saliency(batch)
    torch.testing.assert_close(scores, expected)
    assert expected[batch["text_masks"].bool()].std() > 0.05
    assert further.fused_to == 5 + layer


@torch.no_grad()
def test_the_momentum_teacher_costs_fusion_layers_up_to_the_scores() -> None:
    model, batch, rows = student("epic", {"teacher": "momentum"}), batch_of(), dict[int, int]()
    for index, block in enumerate(model.bert_m.layers):
        block.register_forward_pre_hook(
            lambda _, args, index=index: rows.update({index: rows.get(index, 0) + len(args[1].mask)})
        )
    seen = list[int]()
    model.visual_encoder_m.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    outputs = model(batch, 0.4, DRAWN)
    assert rows == {0: 6, 1: 6, 2: 6, 3: 3, 4: 3}
    assert seen == [3]
    expected = student()(batch, 0.4, DRAWN)
    assert all(torch.allclose(outputs[key], expected[key], rtol=1e-5) for key in OWN)


# The step ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"image_conditioned": True}, {"teacher": "momentum"}], ids=str)
def test_the_step_adds_the_losses_of_the_method(changes: dict[str, Any]) -> None:
    model, batch = student("epic", changes), batch_of((7, 5, 9))
    made = corruptions_of(model.epic)
    outputs = losses_of(model(batch, 0.4, DRAWN))
    (corruption,) = made
    assert corruption.masked.sum(1).tolist() == [3, 2, 3]  # ceil(0.35 * [6, 4, 8])
    assert not corruption.masked[:, 0].any() and corruption.replaced.any()
    with torch.no_grad():
        image = model.visual_encoder(batch["image"])
    expected = plain_epic_losses(model, batch, VOCABULARY, (corruption.masked, corruption.input_ids), image)
    for key, value in expected.items():
        assert float(outputs[key].detach()) == pytest.approx(value, rel=1e-5), key
    assert outputs.keys() == {*OWN, *expected, "epic_teacher_guard_loss"}
    vanilla = student()(batch, 0.4, DRAWN)
    assert all(torch.allclose(outputs[key], vanilla[key], rtol=1e-6) for key in OWN)


@EVERY
def test_every_variant_trains_what_it_should(preset: str, changes: dict[str, Any]) -> None:
    sas = {"sas_refresh_steps": 100} if preset == "vlm_sas" else {}
    model = student(preset, {**changes, **sas}).train()
    frozen = model.epic.teacher or model.epic.snapshot
    outputs = model(planned(model, batch_of()), 0.4)
    itc = outputs["epic_itc_loss"]
    itc.backward(retain_graph=True)
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    for part in ("epic.head", "visual_encoder.blocks.0", "text_encoder.bert.embeddings", "text_encoder.bert.encoder"):
        assert any(name.startswith(part) for name in trained), part
    assert not any(name.startswith(("epic.generator", "itm_head", "text_encoder.cls")) for name in trained)
    model.zero_grad()
    if "epic_gen_loss" in outputs:
        outputs["epic_gen_loss"].backward(retain_graph=True)
        trained = {name for name, p in model.named_parameters() if p.grad is not None}
        assert trained and all(name.startswith("epic.generator") for name in trained)
    model.zero_grad()
    total_loss(outputs).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all((gradient is None) == ("_m." in name) for name, gradient in gradients.items() if "generator" not in name)
    if frozen is not None:
        module = frozen.frozen.module if isinstance(frozen, SasSnapshot) else frozen.module
        assert not module.training and not any(p.requires_grad or p.grad is not None for p in module.parameters())
        assert {id(p) for p in module.parameters()}.isdisjoint({id(p) for p in model.parameters()})


@EVERY
def test_a_planned_batch_has_the_losses_of_any_other_and_asks_for_nothing(preset: str, changes: dict[str, Any]) -> None:
    results = []
    for plan in (False, True):
        torch.manual_seed(0)
        model, batch = student(preset, changes), batch_of((7, 5, 9, 4))
        torch.manual_seed(1)
        given = planned(model, batch) if plan else read_alike(model, batch)
        with HostWaits() as waits:
            outputs = model(given, 0.4)
            total_loss(outputs).backward()
        results.append((losses_of(outputs), waits.total))
    (expected, asked), (losses, still_asked) = results
    assert asked > 0 and still_asked == 0
    assert losses.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in losses.items())


@pytest.mark.parametrize("changes", [{}, {"teacher": "momentum"}, {"append_sep": False}], ids=str)
def test_padding_that_is_computed_changes_no_loss(changes: dict[str, Any]) -> None:
    results = []
    for pack_text in (True, False):
        torch.manual_seed(0)
        model = student("epic", changes, pack_text=pack_text)
        results.append(losses_of(model(planned(model, batch_of()), 0.4, DRAWN)))
    torch.testing.assert_close(*results)


def test_the_generator_reads_a_separator_that_nobody_masks_or_judges() -> None:
    losses = []
    for append in (True, False):
        torch.manual_seed(0)
        model = student("epic", {"append_sep": append})
        made = corruptions_of(model.epic)
        losses.append(model(planned(model, batch_of()), 0.4, DRAWN)["epic_gen_loss"])
        assert made[0].input_ids.shape == made[0].valid.shape == (3, 9)
        assert not (made[0].input_ids == VOCABULARY.sep_id).any()
    assert losses[0] != losses[1]


def test_one_word_or_none_is_judged_or_skipped() -> None:
    """A sentence of [CLS] alone has nothing to mask, and nothing that could be judged."""
    model = student("epic")
    outputs = model(planned(model, batch_of((1, 2, 1), masked=0)), 0.4, DRAWN)
    assert all(loss.isfinite() for loss in losses_of(outputs).values()) and outputs["epic_itc_loss"] > 0
    nothing = model(planned(model, batch_of((1, 1, 1), masked=0)), 0.4, DRAWN)
    assert nothing["epic_itc_loss"] == nothing["epic_gen_loss"] == 0


# "VLM (SAS)" ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_snapshots_logits_are_those_of_the_full_pass() -> None:
    model, batch = teacher(), batch_of()
    chosen = batch["text_labels_mlm"] != -100
    logits = model.mlm_logits_at(batch, batch["text_ids_mlm"], chosen.flatten().nonzero().squeeze(1))
    plain = teacher(pack_text=False)
    image, layout = plain.visual_encoder(batch["image"]), plain.text_layout(batch)
    states = plain.text_encoder.bert(batch["text_ids_mlm"], layout, image, model_pretrain.Seen())
    torch.testing.assert_close(logits, plain.text_encoder.logits(states[chosen]))


def test_a_refreshed_snapshot_is_the_student() -> None:
    model, batch = student("vlm_sas"), batch_of()
    assert model.epic.snapshot.maybe_refresh(1, model, 1)
    weights = model.state_dict()
    for name, value in model.epic.snapshot.frozen.module.state_dict().items():
        assert torch.equal(value, weights[name]) and value.data_ptr() != weights[name].data_ptr(), name
    assert losses_of(model(batch, 0.4, DRAWN))["epic_itc_loss"].isfinite()


# Without EPIC --------------------------------------------------------------------------------------------


def test_switched_off_or_stripped_it_is_the_vanilla_model_to_the_bit() -> None:
    path = Path(str(model_pretrain.__file__))
    vanilla: Any = types.ModuleType("vanilla")
    exec(compile(without_blocks(path.read_text(encoding="utf-8"), path.name), "vanilla", "exec"), vanilla.__dict__)
    assert student().epic is None
    results, batch = [], batch_of()
    for cls in (model_pretrain.ALBEF, vanilla.ALBEF):
        torch.manual_seed(0)
        model = cls(student().config).train()
        outputs = model({**batch, **step_plan(batch)}, 0.4)
        total_loss(outputs).backward()
        results.append((losses_of(outputs), {n: p.grad for n, p in model.named_parameters()}, model.state_dict()))
    (losses, grads, state), (others, other_grads, other_state) = results
    assert losses.keys() == others.keys() == set(OWN) and state.keys() == other_state.keys()
    assert all(torch.equal(losses[name], others[name]) for name in losses)
    assert all(torch.equal(state[name], other_state[name]) for name in state)
    for name, gradient in grads.items():
        torch.testing.assert_close(gradient, other_grads[name], rtol=0, atol=0)
