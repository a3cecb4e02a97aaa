"""The official AdamW (docs/official/meter.md §6) against its formula written out, and the six parameter groups."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vlp.losses.total import total_loss
from vlp.training.optim import AdamW, build_optimizer
from vlp.training.param_groups import parameter_groups

GROUPS = [{"lr": 1e-2, "weight_decay": 0.1}, {"lr": 5e-2, "weight_decay": 0.0}]


def parameters(seed: int = 0) -> list[nn.Parameter]:
    rng = torch.Generator().manual_seed(seed)
    shapes = [(3, 2), (4,), (2, 1, 2), (1,)]
    return [nn.Parameter(torch.randn(shape, generator=rng, dtype=torch.float64)) for shape in shapes]


def gradients(steps: int, seed: int = 1) -> list[list[Tensor]]:
    rng = torch.Generator().manual_seed(seed)
    return [[torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in parameters()] for _ in range(steps)]


def optimizer_over(params: list[nn.Parameter]) -> AdamW:
    return AdamW([{**GROUPS[0], "params": params[:2]}, {**GROUPS[1], "params": params[2:]}], lr=1e-2)


def formula(value: float, grads: list[float | None], lr: float, decay: float) -> float:
    """One number through the update of docs/official/meter.md §6; None = a step without a gradient."""
    m = v = 0.0
    t = 0
    for g in grads:
        if g is None:
            continue
        t += 1
        m = 0.9 * m + 0.1 * g
        v = 0.98 * v + 0.02 * g * g
        value -= lr * (1 - 0.98**t) ** 0.5 / (1 - 0.9**t) * m / (v**0.5 + 1e-8)
        value -= lr * decay * value
    return value


@pytest.mark.parametrize("skipped", [None, 0, 2])
def test_adamw_is_the_formula(skipped: int | None) -> None:
    """Every element by itself; parameter 0 has no gradient in step ``skipped`` and then its own count of steps."""
    params, steps = parameters(), gradients(5)
    initial = copy.deepcopy(params)
    optimizer = optimizer_over(params)
    for number, grads in enumerate(steps):
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            p.grad = None if i == 0 and number == skipped else g.clone()
        optimizer.step()
    for i, p in enumerate(params):
        setting = GROUPS[0 if i < 2 else 1]
        for at in range(p.numel()):
            history: list[float | None] = [float(grads[i].flatten()[at]) for grads in steps]
            if i == 0 and skipped is not None:
                history[skipped] = None
            expected = formula(
                float(initial[i].detach().flatten()[at]), history, setting["lr"], setting["weight_decay"]
            )
            assert float(p.flatten()[at].detach()) == pytest.approx(expected, rel=1e-12)


def test_it_is_not_the_adamw_of_torch() -> None:
    ours, theirs = parameters(), parameters()
    mine = optimizer_over(ours)
    other = torch.optim.AdamW(
        [{**GROUPS[0], "params": theirs[:2]}, {**GROUPS[1], "params": theirs[2:]}], betas=(0.9, 0.98)
    )
    for grads in gradients(3):
        for params, optimizer in ((ours, mine), (theirs, other)):
            for p, g in zip(params, grads, strict=True):
                p.grad = 1e-7 * g  # small gradients, where it matters to which root eps is added
            optimizer.step()
    assert (ours[0] - theirs[0]).abs().max() > 1e-4  # the decay comes last, too
    assert (ours[2] - theirs[2]).abs().max() > 1e-4


def test_a_saved_state_goes_on_to_the_bit() -> None:
    params, steps = parameters(), gradients(4)
    optimizer = optimizer_over(params)
    saved, weights = None, None
    for number, grads in enumerate(steps):
        if number == 2:
            saved, weights = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(params)
        for p, g in zip(params, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
    assert saved is not None and weights is not None
    resumed = optimizer_over(weights)
    resumed.load_state_dict(saved)
    for grads in steps[2:]:
        for p, g in zip(weights, grads, strict=True):
            p.grad = g.clone()
        resumed.step()
    assert all(torch.equal(a, b) for a, b in zip(params, weights, strict=True))


def test_the_closure_is_run_with_gradients_and_its_loss_returned() -> None:
    p = nn.Parameter(torch.ones(1))
    optimizer = AdamW([p], lr=0.1)

    def closure() -> float:
        loss = (3 * p).sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 3.0
    assert float(p.detach()) == pytest.approx(0.9)


# The optimiser of a run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "made"), [("adamw", AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_kinds(kind: str, made: type[torch.optim.Optimizer]) -> None:
    optimizer = build_optimizer([{**GROUPS[0], "params": parameters()}], kind, 1e-5)
    assert type(optimizer) is made and optimizer.param_groups[0]["lr"] == 1e-2
    assert optimizer.param_groups[0].get("momentum") == (0.9 if kind == "sgd" else None)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="optim_type='lamb': choose adamw, adam, sgd"):
        build_optimizer([{"params": parameters()}], "lamb", 1e-5)


def test_one_process_has_nothing_to_divide(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        optimizer = build_optimizer([{"params": parameters()}], "adamw", 1e-5, shard=True)
    assert type(optimizer) is AdamW and "shard_optimizer=True changes nothing: one process" in caplog.text


# Parameter groups ----------------------------------------------------------------------------------------


def groups_of(*names: str) -> dict[str, tuple[float, float]]:
    """name -> (learning rate, weight decay)."""
    named = [(name, nn.Parameter(torch.zeros(1))) for name in names]
    groups = parameter_groups(named, 1e-5, 0.01, [(["mlm_score", "itm_score"], 7), (["cross_modal"], 5)])
    assert len(groups) == 6 and sum(len(group["params"]) for group in groups) == len(names)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    return {name: found[id(p)] for name, p in named}


def test_substrings_place_every_parameter() -> None:
    groups = groups_of(
        "vit_model.visual.conv1.weight",
        "vit_model.visual.ln_post.weight",  # CLIP's norms are decayed: no substring matches "ln_"
        "vit_model.layers.0.blocks.0.norm1.weight",
        "vit_model.layers.0.blocks.0.attn.relative_position_bias_table",  # contains "bias"
        "text_transformer.embeddings.LayerNorm.weight",
        "rank_output.weight",
        "mlm_score.transform.LayerNorm.weight",
        "mlm_score.decoder.weight",
        "cross_modal_text_layers.0.output.dense.bias",
        "cross_modal_image_pooler.dense.weight",
    )
    base, head, cross = 1e-5, pytest.approx(7e-5), pytest.approx(5e-5)
    rates = [(base, 0.01), (base, 0.01), (base, 0), (base, 0), (base, 0), (base, 0.01), (head, 0), (head, 0.01)]
    assert list(groups.values()) == [*rates, (cross, 0), (cross, 0.01)]


def test_a_name_of_two_kinds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cross_modal_itm_score\.weight matches substrings of two groups"):
        groups_of("cross_modal_itm_score.weight")


# What is trained -----------------------------------------------------------------------------------------

NUMBERS = st.floats(-10, 10, width=32)


@settings(max_examples=30)
@given(st.lists(NUMBERS, min_size=1, max_size=4), st.lists(NUMBERS, max_size=3))
def test_the_total_is_the_sum_of_the_losses_alone(losses: list[float], others: list[float]) -> None:
    outputs = {f"task{i}_loss": torch.tensor(value) for i, value in enumerate(losses)}
    # A logged value whose name merely contains "loss" is not trained.
    outputs |= {f"loss_of_{i}_unweighted": torch.tensor(value) for i, value in enumerate(others)}
    assert float(total_loss(outputs)) == pytest.approx(float(sum(torch.tensor(v).double() for v in losses)), abs=1e-4)


def test_the_total_keeps_gradients_of_all_losses() -> None:
    a, b = (torch.ones((), requires_grad=True) for _ in range(2))
    total_loss({"a_loss": 2 * a, "b_loss": 3 * b, "itc_loss_raw": 5 * a}).backward()
    assert (a.grad, b.grad) == (2, 3)


def test_a_step_without_a_loss_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no objective is active: the step returned \['cls_feats'\]"):
        total_loss({"cls_feats": torch.zeros(1)})
