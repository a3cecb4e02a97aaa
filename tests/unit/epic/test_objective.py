"""The whole EPIC step, for every variant: what is corrupted, what is lost, and who gets gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from epic_common.config import PRESETS
from epic_common.generator import build_generator
from epic_common.objective import Epic
from epic_common.saliency import saliency_scores
from tests.unit.epic.tiny import (
    MASK,
    PAD,
    VOCABULARY,
    WIDTH,
    TinyModel,
    batch_of,
    config_of,
    epic_of,
    language_model,
    propose,
    sentences,
    step,
)

VARIANTS = sorted(set(PRESETS) - {"vanilla"})
TRAINED = {"epic", "itc_lm", "lm_cond"}
# What stands for a part that has no loss of its own.
TEACHER, GENERATOR = "epic_teacher_guard_loss", "epic_generator_guard_loss"
SALIENT, UNTRAINED = set(VARIANTS) - {"itc_rand", "itc_lm"}, {"lm_fixed", "lm_trained", "vlm_sas"}


def student(seed: int = 3) -> TinyModel:
    torch.manual_seed(seed)
    return TinyModel()


@pytest.mark.parametrize("preset", VARIANTS)
def test_a_step_of_every_variant(preset: str) -> None:
    epic, model, batch = epic_of(preset), student(), batch_of(9, 4, 0, 1, 14)
    losses, corruption = step(epic, model, batch)
    ids, mask = batch["ids"], batch["mask"]
    words = mask.bool() & (ids > MASK)

    assert corruption.masked.sum(1).tolist() == [4, 2, 0, 1, 5]  # ceil(0.35 * [9, 4, 0, 1, 14])
    assert not (corruption.masked & ~words).any()
    assert torch.equal(corruption.replaced, corruption.input_ids != ids)
    assert not (corruption.replaced & ~corruption.masked).any()
    assert (corruption.input_ids[words] > MASK).all()  # neither [MASK] nor another special token is left or drawn
    assert torch.equal(corruption.valid, words)

    logits = epic.head(student().eval().fuse(corruption.input_ids, mask, batch["image"]))
    assert logits.shape == ids.shape
    assert ("epic_gen_loss" in losses) == (preset in TRAINED)
    assert (TEACHER in losses, GENERATOR in losses) == (preset in SALIENT, preset in UNTRAINED)
    assert all(losses[guard] == 0 for guard in (TEACHER, GENERATOR) if guard in losses)
    assert all(loss.shape == () and loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("preset", VARIANTS)
def test_who_gets_gradients(preset: str) -> None:
    epic, model, batch = epic_of(preset), student(), batch_of(9, 4, 6)
    batch["image"].requires_grad_()
    losses, _ = step(epic, model, batch)
    everything = {**dict(epic.named_parameters()), **{f"student.{n}": p for n, p in model.named_parameters()}}

    def reached(loss: Tensor) -> set[str]:
        grads = torch.autograd.grad(
            loss, [p for p in everything.values() if p.requires_grad], retain_graph=True, allow_unused=True
        )
        names = [name for name, p in everything.items() if p.requires_grad]
        return {name for name, grad in zip(names, grads, strict=True) if grad is not None and grad.abs().sum() > 0}

    by_itc = reached(losses["epic_itc_loss"])
    assert {"head.beta.weight", "head.beta.bias"} <= by_itc
    assert any(name.startswith("student.fusion") for name in by_itc)
    assert "student.image.weight" in by_itc
    assert not any(name.startswith("generator") for name in by_itc)  # nothing flows back through the draw
    if preset in TRAINED:
        by_gen = reached(losses["epic_gen_loss"])
        assert by_gen and all(name.startswith("generator.") for name in by_gen)  # L_GEN trains the generator alone
        trainable = {name for name, p in epic.named_parameters() if name.startswith("generator")}
        # RoBERTa's attention key biases cancel in the softmax; the rest must all be reached
        assert {name for name in trainable - by_gen if "key.bias" not in name} == set()
        (leak,) = torch.autograd.grad(losses["epic_gen_loss"], [batch["image"]], allow_unused=True)
        assert leak is None  # also "LM (cond.)" stops at the image feature
    if epic.teacher is not None:
        teacher: Any = epic.teacher
        assert all(p.grad is None and not p.requires_grad for p in teacher.module.parameters())


def test_the_losses_are_weighted_once_and_the_raw_values_are_metrics() -> None:
    epic, model, batch = epic_of("epic", itc_weight=5.0, generator_weight=0.5).eval(), student().eval(), batch_of(9, 4)
    losses, corruption = step(epic, model, batch)
    logits = epic.head(model.fuse(corruption.input_ids, batch["mask"], batch["image"]))
    d = logits.sigmoid()
    terms = torch.where(corruption.replaced, (1 - d).log(), d.log())[corruption.valid]
    itc = -terms.mean()
    torch.testing.assert_close(losses["epic_itc_loss"], 5.0 * itc)
    torch.testing.assert_close(losses["epic_gen_loss"], 0.5 * corruption.generator_loss)
    values = epic.metrics.compute()
    assert values["epic_itc"] == pytest.approx(itc.item(), rel=1e-5)
    assert values["epic_gen"] == pytest.approx(corruption.generator_loss.item(), rel=1e-5)


def test_head_and_reduction_are_those_of_the_configuration() -> None:
    dense, plain = epic_of("epic", itc_head="dense"), epic_of("epic", itc_head_bias=False)
    assert dense.head.dense is not None and plain.head.dense is None
    assert dense.head.beta.bias is not None and plain.head.beta.bias is None
    model, batch = student().eval(), batch_of(9, 4, 6)
    (mean, corruption), (summed, _) = (
        step(epic_of("epic", itc_reduction=reduction).eval(), model, batch)
        for reduction in ("mean_tokens", "sum_per_sentence")
    )
    torch.testing.assert_close(summed["epic_itc_loss"], mean["epic_itc_loss"] * corruption.valid.sum() / 3)


@pytest.mark.parametrize("preset", ["epic", "lm_cond", "vlm_sas"])
def test_near_zero_every_model_draws_its_likeliest_token(preset: str) -> None:
    """Each seed the same replacements, and other ones at the temperature of Eq. 5."""
    batch, model = batch_of(*[9] * 8), student().eval()

    def drawn(seed: int, temperature: float) -> Tensor:
        settings: dict[str, Any] = {"mask_ratio": 1.0, "sampling_temperature": temperature}
        return step(epic_of(preset, seed=seed, **settings).eval(), model, batch)[1].input_ids

    assert torch.equal(drawn(0, 1e-4), drawn(1, 1e-4)) and not torch.equal(drawn(0, 1.0), drawn(1, 1.0))


def test_the_truth_about_salient_words_reaches_the_metrics() -> None:
    epic, model, batch = epic_of("epic"), student(), batch_of(9, 4)
    corruption = step(epic, model, batch)[1]
    assert "epic_masked_salient_share" not in epic.metrics.compute()
    epic.losses(model.fuse(corruption.input_ids, batch["mask"], batch["image"]), corruption, corruption.masked)
    values = epic.metrics.compute()
    assert values["epic_masked_salient_share"] == 1 and values["epic_salient_share"] == pytest.approx(6 / 13)


def test_alpha_is_the_teachers_eq_8() -> None:
    epic, batch = epic_of("epic"), batch_of(9, 4)
    teacher: Any = epic.teacher
    scores = saliency_scores(*teacher.model.query_key(batch, -2))
    words = batch["ids"] > MASK
    expected = scores.masked_fill(~words, -torch.inf).softmax(-1)
    alpha = epic.corruption_of(batch).log_alpha.exp()
    torch.testing.assert_close(alpha, expected)
    cooler = epic_of("epic", saliency_temperature=4.0).corruption_of(batch).log_alpha.exp()
    torch.testing.assert_close(cooler, (scores / 4).masked_fill(~words, -torch.inf).softmax(-1))


def test_salient_tokens_are_masked_more_often() -> None:
    ids, mask = sentences(*[10] * 200)
    scores = 5.0 * (torch.arange(ids.shape[1]) == 3).float().expand(ids.shape)
    masked = epic_of("epic").corrupt(ids, mask, scores).masked.float().mean(0)
    assert masked[3] > 0.95 and (masked[[1, 2, *range(4, 11)]] < 0.5).all()
    assert (masked[[1, 2, *range(4, 11)]] > 0.1).all()


def test_only_empty_captions_give_zero_losses_and_finite_gradients() -> None:
    for preset in VARIANTS:
        epic, model, batch = epic_of(preset), student(), batch_of(0, 0)
        losses, corruption = step(epic, model, batch)
        assert not corruption.masked.any() and not corruption.valid.any()
        assert all(loss == 0 for loss in losses.values()), preset
        sum(losses.values(), torch.zeros(())).backward()
        grads = [p.grad for p in [*epic.parameters(), *model.parameters()] if p.grad is not None]
        assert grads and all(grad.isfinite().all() for grad in grads), preset


@pytest.mark.parametrize("preset", sorted(SALIENT))
def test_scores_that_are_not_finite_make_the_total_nan_and_name_the_teacher(preset: str) -> None:
    epic, model, batch = epic_of(preset), student(), batch_of(9, 4)
    scores = torch.zeros(batch["ids"].shape)
    scores[1, 2] = torch.nan
    corruption = epic.corrupt(batch["ids"], batch["mask"], scores, batch["image"][:, 0], lambda *_: torch.zeros(4, 40))
    assert corruption.masked.sum(1).tolist() == [4, 0]
    losses = epic.losses(model.fuse(corruption.input_ids, batch["mask"], batch["image"]), corruption)
    assert {name for name, loss in losses.items() if not loss.isfinite()} == {TEACHER}


@pytest.mark.parametrize("preset", sorted(TRAINED | UNTRAINED))
def test_a_generator_that_is_not_finite_makes_the_total_nan_and_is_named(preset: str) -> None:
    epic, model, batch = epic_of(preset), student(), batch_of(9, 4)
    frozen: Any = epic.snapshot and epic.snapshot.frozen.model
    lm: Any = frozen.mlm if frozen else epic.generator.language_model.lm_head  # type: ignore[union-attr]
    with torch.no_grad():
        lm.bias[7] = torch.inf
    losses, _ = step(epic, model, batch)
    part = "epic_gen_loss" if preset in TRAINED else GENERATOR
    assert {name for name, loss in losses.items() if not loss.isfinite()} == {part}


@pytest.mark.parametrize("preset", VARIANTS)
def test_a_head_that_is_not_finite_makes_its_own_loss_nan(preset: str) -> None:
    epic, model, batch = epic_of(preset), student(), batch_of(9, 4)
    with torch.no_grad():
        epic.head.beta.bias.fill_(torch.nan)
    losses, _ = step(epic, model, batch)
    assert {name for name, loss in losses.items() if not loss.isfinite()} == {"epic_itc_loss"}


@pytest.mark.parametrize(("ratio", "counts"), [(0.0, [0, 0]), (1.0, [9, 4])])
def test_the_ends_of_the_mask_ratio(ratio: float, counts: list[int]) -> None:
    epic, model, batch = epic_of("epic", mask_ratio=ratio), student(), batch_of(9, 4)
    losses, corruption = step(epic, model, batch)
    assert corruption.masked.sum(1).tolist() == counts
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["epic_itc_loss"] > 0  # the tokens that stayed are judged in any case


def test_padding_does_not_change_the_step() -> None:
    epic, model = epic_of("epic").eval(), student().eval()
    image = batch_of(9, 4)["image"]
    short, long = sentences(9, 4), sentences(9, 4, padded_to=11 + 6)
    results = []
    for ids, mask in (short, long):
        # the same M for both: only the padding differs
        masked = torch.zeros_like(ids, dtype=torch.bool)
        masked[:, 2:4] = True
        gen = propose(epic.generator, ids, mask, masked, torch.Generator().manual_seed(0))
        states = model.fuse(ids.masked_scatter(masked, gen.tokens), mask, image)
        results.append((gen.tokens, gen.loss, epic.head(states)[:, :11][mask[:, :11].bool()]))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_special_tokens_can_be_masked_and_judged_by_choice() -> None:
    batch = batch_of(9, 4)
    real = batch["mask"].bool()
    judged = epic_of("epic", itc_special_tokens=True).corruption_of(batch)
    assert torch.equal(judged.valid, real)
    assert not (judged.masked & (batch["ids"] <= MASK)).any()
    counted = epic_of("epic", mask_special_tokens=True).corruption_of(batch)
    assert counted.masked.sum(1).tolist() == [4, 3]  # ceil(0.35 * [11, 6])
    assert torch.equal(counted.valid, real) and not (counted.masked & ~real).any()


def test_the_teacher_is_nowhere_in_the_module() -> None:
    for preset in VARIANTS:
        epic = epic_of(preset)
        assert {name for name, _ in epic.named_children()} == {"generator", "head"}
        assert all(name.split(".")[0] in ("generator", "head") for name in epic.state_dict())
        inside = {id(p) for p in epic.parameters()} | {id(m) for m in epic.modules()}
        held: list[Any] = [epic.teacher, epic.snapshot and epic.snapshot.frozen]
        for frozen in filter(None, held):
            parts = {id(p) for p in frozen.module.parameters()} | {id(m) for m in frozen.module.modules()}
            assert inside.isdisjoint(parts)
            epic.train()
            assert not frozen.module.training


def test_a_resumed_run_draws_the_same_numbers() -> None:
    batch = batch_of(9, 4, 12)
    epic = epic_of("epic", generator_dropout=False)
    epic.corruption_of(batch)
    state = epic.rng_state()
    rest = [epic.corruption_of(batch) for _ in range(3)]
    resumed = epic_of("epic", generator_dropout=False)
    resumed.set_rng_state(state)
    for expected in rest:
        again = resumed.corruption_of(batch)
        assert torch.equal(again.masked, expected.masked) and torch.equal(again.input_ids, expected.input_ids)
    assert not torch.equal(rest[0].masked, rest[1].masked)


def test_ranks_and_seeds_draw_different_numbers() -> None:
    batch = batch_of(*[12] * 8)
    for key in ("rank", "seed"):
        drawn = [epic_of("epic", **{key: number}).corruption_of(batch).masked for number in range(3)]
        assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


@pytest.mark.parametrize("preset", VARIANTS)
def test_masked_positions_and_replacements_come_from_epics_stream_alone(preset: str) -> None:
    batch, model, drawn = batch_of(*[12] * 8), student().eval(), []
    for seed in (1, 2):
        epic = epic_of(preset, generator_dropout=False)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        drawn.append(step(epic, model, batch)[1])
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn[0].masked, drawn[1].masked) and torch.equal(drawn[0].input_ids, drawn[1].input_ids)


def test_evaluation_repeats_its_draws_and_keeps_its_own_metrics() -> None:
    epic, model, batch = epic_of("epic"), student(), batch_of(9, 4)
    step(epic, model, batch)
    state, trained = epic.rng_state(), epic.metrics.compute()
    epic.eval()
    (_, first), (_, second) = step(epic, model, batch), step(epic, model, batch)
    assert torch.equal(first.input_ids, second.input_ids)
    assert torch.equal(epic.rng_state(), state)
    assert epic.train().metrics.compute() == trained


def test_replacements_are_the_refreshed_snapshots() -> None:
    epic, model, batch = epic_of("vlm_sas"), student(), batch_of(9, 4)
    assert epic.snapshot is not None and epic.snapshot.maybe_refresh(10, model, every=10)
    corruption = epic.corruption_of(batch)
    masked_ids = batch["ids"].masked_fill(corruption.masked, MASK)
    places = corruption.masked.flatten().nonzero().squeeze(1)
    likeliest = model.eval().mlm_logits_at(batch, masked_ids, places).argmax(-1)
    assert corruption.generator_correct is not None
    assert torch.equal(corruption.generator_correct, likeliest == batch["ids"][corruption.masked])


def test_the_losses_under_autocast_are_float32_and_close() -> None:
    batch = batch_of(9, 4, 12)
    losses, _ = step(epic_of("epic").eval(), student().eval(), batch)
    with torch.autocast("cpu", torch.bfloat16):
        half, _ = step(epic_of("epic").eval(), student().eval(), batch)
    for name, loss in half.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, losses[name], rtol=0.05, atol=0.05)


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"epic\.enabled is False"):
        Epic(config_of("vanilla"), VOCABULARY, WIDTH, build_generator(config_of("itc_rand"), VOCABULARY))
    with pytest.raises(ValueError, match="needs language_model"):
        build_generator(config_of("itc_lm"), VOCABULARY)
    with pytest.raises(ValueError, match="takes no language_model"):
        build_generator(config_of("itc_rand"), VOCABULARY, language_model())
    with pytest.raises(ValueError, match="needs image_width"):
        build_generator(config_of("lm_cond"), VOCABULARY, language_model())
    ids, mask = sentences(9, 4)
    with pytest.raises(ValueError, match=r"scores \(2, 11\) for ids \(2, 5\)"):
        epic_of("epic").corrupt(ids[:, :5], mask[:, :5], torch.zeros(2, 11))
    with pytest.raises(ValueError, match=r"epic\.masking='saliency' needs scores of a teacher"):
        epic_of("epic").corrupt(ids, mask, None)
    with pytest.raises(ValueError, match=r"epic\.masking='uniform' takes no scores of a teacher"):
        epic_of("itc_lm").corrupt(ids, mask, torch.zeros(2, 11))


def test_the_task_can_be_learnt() -> None:
    """A student that sees the true words as its image learns to find the replaced ones."""
    torch.manual_seed(0)
    epic = epic_of("itc_rand")
    table = torch.randn(40, WIDTH)
    judge = nn.Sequential(nn.Linear(3 * WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH))
    optimiser = torch.optim.Adam([*judge.parameters(), *epic.parameters()], lr=3e-3)
    _, mask = sentences(*[10] * 32)
    for _ in range(120):
        ids = torch.where(mask.bool(), torch.randint(MASK + 1, 40, mask.shape), PAD)
        corruption = epic.corrupt(ids, mask, None)
        seen, true = F.embedding(corruption.input_ids, table), F.embedding(ids, table)
        losses = epic.losses(judge(torch.cat([seen, true, seen * true], -1)), corruption)
        optimiser.zero_grad()
        losses["epic_itc_loss"].backward()
        optimiser.step()
    epic.metrics.reset()
    epic.losses(judge(torch.cat([seen, true, seen * true], -1)), corruption)
    assert epic.metrics.compute()["epic_itc_auroc"] > 0.95
