"""EPIC in METER: Eq. 8 by brute force, a teacher that leaves no trace, one step, and the optimiser's groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from epic_common.teacher import Teacher
from meter.modules.epic_meter import MeterEpic, MeterTeacher
from meter.modules.meter_module import METERTransformerSS
from tests.unit.epic.tiny import VOCABULARY, config_of, language_model
from tests.unit.meter.small import HEADS, IMAGE_SIZE, LAYERS, WIDTH, Batch, batch_of, meter
from vlp.nn.attention import CoAttentionLayer


def teacher_of(vision: str = "clip", **changes: Any) -> MeterTeacher:
    made = meter(vision, tasks=("mlm",), cls=MeterTeacher, **changes)
    assert isinstance(made, MeterTeacher)
    return made


def epic_model(preset: str = "epic", vision: str = "clip", **changes: Any) -> METERTransformerSS:
    """A student with EPIC's parts, as attach_epic puts them in."""
    student, config = meter(vision), config_of(preset, **changes)
    lm = language_model() if config.replacement == "lm" else None
    teacher = Teacher(teacher_of(vision), config.saliency_layer) if config.needs_teacher else None
    student.epic = MeterEpic(config, VOCABULARY, WIDTH, lm, image_width=WIDTH, teacher=teacher, seed=0, rank=0)
    return student.eval()


def epic_of(model: METERTransformerSS) -> MeterEpic:
    assert model.epic is not None
    return model.epic


# Eq. 8 ---------------------------------------------------------------------------------------------------


@contextmanager
def projections(layer: CoAttentionLayer) -> Iterator[dict[str, Tensor]]:
    """What a fusion layer's cross-attention projects its queries and keys to during a pass."""
    kept: dict[str, Tensor] = {}
    cross = layer.crossattention.self
    hooks = [
        module.register_forward_hook(lambda _, args, out, name=name: kept.__setitem__(name, out))
        for name, module in (("q", cross.query), ("k", cross.key))
    ]
    yield kept
    for hook in hooks:
        hook.remove()


@torch.no_grad()
@pytest.mark.parametrize("vision", ["clip", "swin"])
@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(3, 8), min_size=1, max_size=3), st.integers(-LAYERS, -1), st.integers(0, 9))
def test_saliency_scores_are_equation_8(vision: str, lengths: list[int], layer: int, seed: int) -> None:
    """Mean over heads of q_k·K_k, without 1/sqrt(d_h), from the projections of a plain full pass."""
    torch.manual_seed(seed)
    teacher = teacher_of(vision)
    batch = batch_of(lengths, padded_to=9, image_size=IMAGE_SIZE[vision], seed=seed)
    fusion = teacher.cross_modal_image_layers[layer]
    assert isinstance(fusion, CoAttentionLayer)
    with projections(fusion) as kept:
        teacher.infer(batch)
    # CLIP: image token 0 is the class token. Swin has none: the query of the mean token.
    query = kept["q"][:, 0] if vision == "clip" else kept["q"].mean(dim=1)
    size = WIDTH // HEADS
    expected = torch.zeros(len(lengths), 9)
    for b in range(len(lengths)):
        for i in range(9):
            heads = [slice(h * size, (h + 1) * size) for h in range(HEADS)]
            expected[b, i] = sum(float(query[b, part] @ kept["k"][b, i, part]) for part in heads) / HEADS
    scores = teacher.saliency_scores(batch, layer)
    valid = batch["text_masks"].bool()
    assert scores.shape == (len(lengths), 9)
    assert torch.allclose(scores[valid], expected[valid], atol=1e-4)


def test_saliency_reads_the_unmasked_sentence_and_the_true_image() -> None:
    teacher, batch = teacher_of(), batch_of([6, 5])
    scores = teacher.saliency_scores(batch, -2)
    unread = {name: batch[name] for name in ("text_ids_mlm", "text_labels_mlm", "false_image_0")}
    assert torch.equal(teacher.saliency_scores({k: v for k, v in batch.items() if k not in unread}, -2), scores)
    other_image = {**batch, "image": [torch.randn_like(batch["image"][0])]}
    assert not torch.allclose(teacher.saliency_scores(other_image, -2), scores)


@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_nothing_beyond_the_scores_is_computed(vision: str) -> None:
    teacher = teacher_of(vision)
    layer = teacher.cross_modal_image_layers[-2]
    assert isinstance(layer, CoAttentionLayer)
    forbidden: list[nn.Module] = [
        teacher.cross_modal_image_layers[-1],
        *teacher.cross_modal_text_layers[-2:],
        *(layer.crossattention.self.value, layer.crossattention.output, layer.intermediate, layer.output),
        *(teacher.mlm_score, teacher.cross_modal_text_pooler, teacher.cross_modal_image_pooler),
    ]
    for module in forbidden:
        module.register_forward_pre_hook(lambda *_: pytest.fail("not needed for the saliency"))
    batch = batch_of([6, 5], image_size=IMAGE_SIZE[vision])
    teacher.saliency_scores(batch, -2)
    with pytest.raises(pytest.fail.Exception, match="not needed"):
        teacher.infer(batch)


# The step ------------------------------------------------------------------------------------------------


def test_the_teacher_is_no_part_of_the_student() -> None:
    student = epic_model()
    teacher: Any = epic_of(student).teacher
    assert isinstance(teacher, Teacher)
    theirs = {id(p) for p in teacher.module.parameters()}
    assert theirs.isdisjoint({id(p) for p in student.parameters()})
    assert not any(module is teacher.module for module in student.modules())
    pointers = {p.data_ptr() for p in teacher.module.parameters()}
    assert pointers.isdisjoint({t.data_ptr() for t in student.state_dict().values() if t.numel()})
    assert {name.split(".")[1] for name in student.state_dict() if name.startswith("epic.")} == {"head", "generator"}


def plain_epic_losses(model: METERTransformerSS, batch: Batch) -> dict[str, Tensor]:
    """METHOD §2, steps 7-9, from a full pass over the sentence that the step draws (the same one in eval mode)."""
    epic = epic_of(model)
    image_cls = model.encode_image(batch["image"][0])[:, 0]
    corruption = epic.corrupt(batch["text_ids"], batch["text_masks"], batch, image_cls)
    states = model.infer({**batch, "text_ids": corruption.input_ids})["text_feats"]
    d = torch.sigmoid(epic.head(states)).double()
    terms = [
        -torch.log(1 - d[b, i] if corruption.replaced[b, i] else d[b, i])
        for b, i in corruption.valid.nonzero().tolist()
    ]
    return {"epic_itc_loss": 8 * torch.stack(terms).mean(), "epic_gen_loss": corruption.generator_loss}


@pytest.mark.parametrize("preset", ["epic", "itc_lm", "lm_cond"])
def test_the_step_adds_the_losses_of_the_method(preset: str) -> None:
    model, itm_labels = epic_model(preset), torch.tensor([0, 1, 0])
    batch = batch_of([7, 5, 9])
    outputs, expected = model(batch, itm_labels), plain_epic_losses(model, batch)
    for key, value in expected.items():
        assert float(outputs[key].detach()) == pytest.approx(float(value.detach()), rel=1e-5), key
    student = epic_of(model)
    model.epic = None  # METER's own losses are those without EPIC
    vanilla = model(batch, itm_labels)
    assert all(torch.equal(outputs[key], vanilla[key]) for key in ("mlm_loss", "itm_loss"))
    assert outputs.keys() - vanilla.keys() == {"epic_itc_loss", "epic_gen_loss"}
    assert student.metrics.compute()["epic_itc"] > 0


def test_the_students_image_features_serve_epic_too() -> None:
    model, rows = epic_model(), []
    model.vit_model.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    model(batch_of([7, 5, 9, 4]), torch.tensor([0, 1, 0, 1]))
    assert rows == [6]


def test_the_itc_loss_trains_the_student_and_the_generator_loss_the_generator() -> None:
    model = epic_model()
    outputs = model(batch_of([7, 5, 9]), torch.tensor([0, 1, 0]))
    outputs["epic_itc_loss"].backward(retain_graph=True)
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert not any(name.startswith(("epic.generator", "mlm_score", "itm_score")) for name in trained)
    for part in ("epic.head", "vit_model.visual", "text_transformer.encoder", "cross_modal_text_layers.2"):
        assert any(name.startswith(part) for name in trained), part
    model.zero_grad()
    outputs["epic_gen_loss"].backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained and all(name.startswith("epic.generator") for name in trained)


def test_mlm_logits_at_are_those_of_the_full_pass() -> None:
    teacher, batch = teacher_of(), batch_of([6, 5])
    masked = batch["text_labels_mlm"] != -100
    logits = teacher.mlm_logits_at(batch, batch["text_ids_mlm"], masked)
    full = teacher.mlm_score(teacher.infer(batch, mask_text=True)["text_feats"])
    assert torch.allclose(logits, full[masked], atol=1e-5)
