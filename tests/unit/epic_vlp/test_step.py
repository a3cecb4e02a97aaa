"""One training step of every baseline with EPIC: what it adds, whom it trains, and that a teacher leaves no trace."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from epic_common.config import PRESETS
from epic_common.teacher import Teacher
from tests.unit.epic_vlp.kits import METER_KIT, Batch, Kit, every
from vlp.losses.total import total_loss

VARIANTS = sorted(set(PRESETS) - {"vanilla"})


@every("epic")
def test_the_teacher_is_no_part_of_the_student(kit: Kit, preset: str) -> None:
    student = kit.epic_model(preset)
    teacher = student.epic.teacher
    assert isinstance(teacher, Teacher)
    theirs = {id(p) for p in teacher.module.parameters()}
    assert theirs and theirs.isdisjoint({id(p) for p in student.parameters()})
    assert not any(module is teacher.module for module in student.modules())
    pointers = {p.data_ptr() for p in teacher.module.parameters()}
    assert pointers.isdisjoint({t.data_ptr() for t in student.state_dict().values() if t.numel()})
    assert {name.split(".")[1] for name in student.state_dict() if name.startswith("epic.")} == {"head", "generator"}


def corruptions_of(epic: Any) -> list[Any]:
    """What ``epic`` makes of its sentences from now on."""
    made, corrupt = list[Any](), epic.corrupt

    def watched(*args: Any, **options: Any) -> Any:
        made.append(corrupt(*args, **options))
        return made[-1]

    epic.corrupt = watched
    return made


@torch.no_grad()
def plain_epic_losses(kit: Kit, model: Any, batch: Batch, masked: Tensor, corrupted: Tensor) -> dict[str, float]:
    """docs/method.md §2, steps 5-9, token by token from full passes over the sentence that the step drew."""
    ids, mask, generator = batch["text_ids"], batch["text_masks"], model.epic.generator
    words = generator.language_model.get_input_embeddings()(ids.masked_fill(masked, kit.vocabulary.mask_id))
    if model.epic.config.image_conditioned:
        words[:, 0] = model.encode_image(batch["image"][0])[:, 0]
    log_p = generator.language_model(inputs_embeds=words, attention_mask=mask).logits.log_softmax(-1)
    gen = [-float(log_p[b, i, ids[b, i]]) for b, i in masked.nonzero().tolist()]
    states = model.infer({**batch, "text_ids": corrupted})["text_feats"]
    d, itc = torch.sigmoid(model.epic.head(states)).double(), []
    for b, i in mask.nonzero().tolist():
        if int(ids[b, i]) not in kit.vocabulary.special_ids:
            itc.append(-math.log(d[b, i] if corrupted[b, i] == ids[b, i] else 1 - d[b, i]))
    return {"epic_itc_loss": 8 * sum(itc) / len(itc), "epic_gen_loss": sum(gen) / len(gen)}


@every("epic", "itc_lm", "lm_cond")
def test_the_step_adds_the_losses_of_the_method(kit: Kit, preset: str) -> None:
    model, itm_labels = kit.epic_model(preset), torch.tensor([0, 1, 0])
    batch, made = kit.batch_of([7, 5, 9]), corruptions_of(model.epic)
    outputs = model(batch, itm_labels)
    (corruption,) = made
    expected = plain_epic_losses(kit, model, batch, corruption.masked, corruption.input_ids)
    for key, value in expected.items():
        assert float(outputs[key].detach()) == pytest.approx(value, rel=1e-5), key
    epic, model.epic = model.epic, None  # the baseline's own losses are those without EPIC
    vanilla = model(batch, itm_labels)
    assert all(torch.equal(outputs[key], vanilla[key]) for key in kit.own_losses)
    guard = {"epic_teacher_guard_loss"} if epic.teacher is not None else set()
    assert outputs.keys() - vanilla.keys() == {"epic_itc_loss", "epic_gen_loss", *guard}
    assert all(outputs[key] == 0 for key in guard)
    assert epic.metrics.compute()["epic_itc"] == pytest.approx(expected["epic_itc_loss"] / 8, rel=1e-5)
    assert epic.metrics.compute()["epic_gen"] == pytest.approx(expected["epic_gen_loss"], rel=1e-5)


@every("epic")
def test_the_itc_loss_trains_the_student_and_the_generator_loss_the_generator(kit: Kit, preset: str) -> None:
    model = kit.epic_model(preset)
    outputs = model(kit.batch_of([7, 5, 9]), torch.tensor([0, 1, 0]))
    outputs["epic_itc_loss"].backward(retain_graph=True)
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert not any(name.startswith(("epic.generator", "mlm_score", "itm_score")) for name in trained)
    for part in ("epic.head", *kit.trained_by_itc):
        assert any(name.startswith(part) for name in trained), part
    model.zero_grad()
    outputs["epic_gen_loss"].backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained and all(name.startswith("epic.generator") for name in trained)


@every("epic")
def test_mlm_logits_at_are_those_of_the_full_pass(kit: Kit, preset: str) -> None:
    teacher, batch = kit.teacher(), kit.batch_of([6, 5])
    masked = batch["text_labels_mlm"] != -100
    logits = teacher.mlm_logits_at(batch, batch["text_ids_mlm"], masked.flatten().nonzero().squeeze(1))
    full = teacher.mlm_score(teacher.infer(batch, mask_text=True)["text_feats"])
    assert torch.allclose(logits, full[masked], atol=1e-5)


@every("epic")
def test_saliency_reads_the_unmasked_sentence_and_the_true_image(kit: Kit, preset: str) -> None:
    teacher, batch = Teacher(kit.teacher()), kit.batch_of([6, 5])
    scores = teacher.saliency(batch)
    unread = {name: batch[name] for name in ("text_ids_mlm", "text_labels_mlm", "false_image_0")}
    assert torch.equal(teacher.saliency({k: v for k, v in batch.items() if k not in unread}), scores)
    other_image = {**batch, "image": [torch.randn_like(batch["image"][0])]}
    assert not torch.allclose(teacher.saliency(other_image), scores)


# Sentences that leave nothing to mask, and one sentence alone ------------------------------------------------


def specials(kit: Kit, *rows: list[int]) -> Batch:
    """A batch of the given ids, all of them special, where MLM asks for nothing."""
    n, pad = max(map(len, rows)), kit.vocabulary.pad_id
    batch = kit.batch_of([n] * len(rows), masked=[])
    batch["text_ids"] = torch.tensor([row + [pad] * (n - len(row)) for row in rows])
    batch["text_masks"] = (batch["text_ids"] != pad).long()
    batch["text_ids_mlm"] = batch["text_ids"].clone()
    return batch


@every(*VARIANTS)
@pytest.mark.parametrize("count", [1, 3])
def test_sentences_of_special_tokens_alone_cost_nothing(kit: Kit, preset: str, count: int) -> None:
    bos, eos, mask = kit.bos, kit.vocabulary.sep_id, kit.vocabulary.mask_id
    assert eos is not None
    rows = [[bos, eos]] if count == 1 else [[bos, mask, kit.unk, eos], [bos, eos], [bos, eos, mask, bos, eos]]
    model = kit.epic_model(preset)
    outputs = model(specials(kit, *rows), torch.zeros(len(rows), dtype=torch.long))
    losses = [key for key in outputs if key.endswith("_loss") and key.startswith(("epic_", "mlm_"))]
    assert {"epic_itc_loss", "mlm_loss"} <= set(losses) and not any(bool(outputs[key]) for key in losses)
    total_loss(outputs).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    # There, as another rank waits for it, and 0.
    assert not gradients["epic.head.beta.weight"].any()
    assert gradients["itm_score.fc.weight"].any()


@every(*VARIANTS)
def test_one_pair_alone_is_a_mismatch_and_trains_epic(kit: Kit, preset: str) -> None:
    model = kit.epic_model(preset, mask_ratio=1.0)
    outputs = model(kit.batch_of([7]))
    assert outputs["itm_labels"].tolist() == [0]
    assert all(bool(outputs[key].isfinite()) for key in outputs if key.endswith("_loss"))
    total_loss(outputs).backward()
    gradient = model.get_parameter("epic.head.beta.weight").grad
    assert gradient is not None and gradient.any()


def test_the_students_image_features_serve_epic_too() -> None:
    model, rows = METER_KIT.epic_model(), []
    model.vit_model.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    model(METER_KIT.batch_of([7, 5, 9, 4]), torch.tensor([0, 1, 0, 1]))
    assert rows == [6]
