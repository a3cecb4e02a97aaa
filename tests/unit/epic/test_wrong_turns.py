"""One test for each known wrong turn of an EPIC implementation and for the traps of the official code."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import epic_common
from epic_common.config import EpicConfig
from epic_common.consistency import itc_loss
from epic_common.generator import LanguageModelGenerator, VisionLanguageGenerator
from epic_common.teacher import Teacher
from tests.unit.epic.test_generator import logits_of
from tests.unit.epic.tiny import (
    BOS,
    EOS,
    IMAGE_WIDTH,
    MASK,
    VOCABULARY,
    TinyModel,
    batch_of,
    config_of,
    epic_of,
    language_model,
    propose,
    sentences,
    step,
)

SOURCES = sorted(Path(epic_common.__file__).parent.rglob("*.py"))


def test_1_the_labels_hold_both_classes_and_the_loss_covers_unmasked_tokens() -> None:
    epic, batch = epic_of("epic"), batch_of(*[10] * 16)
    corruption = epic.corruption_of(batch)
    labels = ~corruption.replaced[corruption.valid]
    assert labels.any() and not labels.all()
    logits = torch.randn(batch["ids"].shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(itc_loss(logits, corruption.replaced, corruption.valid), logits)
    assert torch.equal(gradient != 0, corruption.valid)
    assert (corruption.valid & ~corruption.masked).sum() > corruption.masked.sum()


@pytest.mark.parametrize("constant", [-20.0, 20.0])
def test_1_no_constant_logit_solves_the_task(constant: float) -> None:
    epic, batch = epic_of("epic"), batch_of(*[10] * 16)
    corruption = epic.corruption_of(batch)
    loss = itc_loss(torch.full(batch["ids"].shape, constant), corruption.replaced, corruption.valid)
    assert loss > math.log(2)


def test_2_the_generator_neither_sees_the_image_nor_is_the_student_and_l_gen_trains_it() -> None:
    epic, student, batch = epic_of("epic", generator_dropout=False), TinyModel(), batch_of(9, 4)
    assert isinstance(epic.generator, LanguageModelGenerator)
    assert not isinstance(epic.generator, VisionLanguageGenerator)
    assert {id(p) for p in epic.generator.parameters()}.isdisjoint({id(p) for p in student.parameters()})
    masked = torch.zeros_like(batch["ids"], dtype=torch.bool)
    masked[:, 1:3] = True
    tokens = [
        propose(epic.generator, batch["ids"], batch["mask"], masked, torch.Generator().manual_seed(0), image).tokens
        for image in (torch.zeros(2, IMAGE_WIDTH), torch.ones(2, IMAGE_WIDTH))
    ]
    assert torch.equal(tokens[0], tokens[1])
    losses, _ = step(epic, student, batch)
    losses["epic_gen_loss"].backward()
    assert all(p.grad is not None for p in epic.generator.parameters())


def test_3_tokens_are_sampled_and_the_original_comes_up_as_often_as_it_should() -> None:
    torch.manual_seed(0)
    generator = LanguageModelGenerator(language_model(), VOCABULARY, config_of("epic")).eval()
    ids, mask = (row.expand(4000, -1) for row in sentences(6))
    masked = torch.zeros_like(ids, dtype=torch.bool)
    masked[:, 3] = True
    logits = logits_of(generator, ids[:1], mask[:1], masked[:1])[0].masked_fill(generator.forbidden, -torch.inf)
    ids = ids.clone()
    ids[:, 3] = logits.topk(2).indices[1]  # an original that is likely, but not the likeliest
    p = logits.softmax(-1)[ids[0, 3]].item()
    drawn = propose(generator, ids, mask, masked, torch.Generator().manual_seed(1)).tokens
    share = (drawn == ids[:, 3]).float().mean().item()
    assert 0.02 < p < 0.5 and share == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 4000))
    assert len(drawn.unique()) > 10


def test_3_a_token_that_was_drawn_again_is_consistent() -> None:
    epic, batch = epic_of("epic"), batch_of(*[10] * 64)
    corruption = epic.corruption_of(batch)
    same = corruption.masked & (corruption.input_ids == batch["ids"])
    assert same.any() and not corruption.replaced[same].any()


def test_4_saliency_is_the_teachers_and_masking_is_a_draw_at_the_ratio() -> None:
    epic, batch = epic_of("epic"), batch_of(20, 20)
    first, second = (epic.corruption_of(batch) for _ in range(2))
    assert not torch.equal(first.masked, second.masked)  # no deterministic top-k
    assert torch.equal(first.log_alpha, second.log_alpha)
    assert first.masked.sum(1).tolist() == [7, 7]  # no fixed k
    with torch.no_grad():
        for parameter in epic.parameters():
            parameter.add_(1.0)
    assert torch.equal(epic.corruption_of(batch).log_alpha, first.log_alpha)


def test_5_an_error_of_the_teacher_is_an_error() -> None:
    class Broken(TinyModel):
        def query_key(self, batch: dict[str, Tensor], layer: int) -> tuple[Tensor, Tensor]:
            raise RuntimeError("no such layer")

    epic = epic_of("epic")
    epic.teacher = Teacher(Broken())
    with pytest.raises(RuntimeError, match="no such layer"):
        epic.corruption_of(batch_of(5))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_5_no_broad_except(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
            assert ast.unparse(node.type) not in ("Exception", "BaseException")


@pytest.mark.parametrize("preset", ["epic", "itc_lm", "itc_rand", "vlm_sas"])
def test_6_no_special_token_is_ever_masked_or_judged(preset: str) -> None:
    epic, batch = epic_of(preset, mask_ratio=1.0), batch_of(10, 3, 0, 7)
    corruption = epic.corruption_of(batch)
    special = batch["ids"] <= MASK
    assert special[:, 0].all() and (batch["ids"] == EOS).sum() == 4
    assert not (corruption.masked & special).any() and not (corruption.valid & special).any()
    assert torch.equal(corruption.input_ids[special], batch["ids"][special])
    assert (corruption.input_ids[:, 0] == BOS).all()


def test_a_baseline_that_sums_every_key_with_loss_in_it_trains_on_the_weighted_losses_alone() -> None:
    epic, student, batch = epic_of("epic").eval(), TinyModel().eval(), batch_of(9, 4)
    losses, corruption = step(epic, student, batch)
    total = sum(float(value.detach()) for key, value in losses.items() if "loss" in key)
    values = epic.metrics.compute()
    assert total == pytest.approx(8 * values["epic_itc"] + values["epic_gen"], rel=1e-5)
    assert not any("loss" in name for name in values)
    assert all(name.startswith("epic_") for name in [*losses, *values])
    assert corruption.generator_loss == losses["epic_gen_loss"]


@pytest.mark.parametrize("preset", ["epic", "lm_cond", "itc_rand", "vlm_sas"])
def test_no_parameter_name_puts_epic_into_a_baselines_group_by_accident(preset: str) -> None:
    taken = ("cross_modal", "mlm_score", "itm_score", "vqa_classifier", "nlvr2_classifier", "snli_classifier")
    for name, _ in epic_of(preset).named_parameters():
        assert not any(word in f"epic.{name}" for word in taken)


def test_masking_is_by_token_whatever_the_tokenizer_calls_a_word() -> None:
    # Whole-word rules of BERT's "##" pieces do nothing for RoBERTa; every single token can be masked here.
    epic, batch = epic_of("itc_lm"), batch_of(*[6] * 300)
    masked = epic.corruption_of(batch).masked.float().mean(0)
    assert masked[1:7].min() > 0.35 and masked[1:7].max() < 0.65  # m = 3 of 6


def test_a_row_without_probability_left_does_not_crash_the_draw() -> None:
    # All of alpha on one token: a multinomial over probabilities has nothing left for the second draw.
    ids, mask = sentences(9, 9)
    scores = 1e4 * (torch.arange(ids.shape[1]) == 2).float().expand(ids.shape)
    masked = epic_of("epic").corrupt(ids, mask, scores).masked
    assert masked.sum(1).tolist() == [4, 4] and masked[:, 2].all()


def test_switches_are_booleans_not_strings_that_are_always_true() -> None:
    with pytest.raises(ValueError, match=r"epic\.enabled is 'False'"):
        EpicConfig.from_dict({"enabled": "False"})
