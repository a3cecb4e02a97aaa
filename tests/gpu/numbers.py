"""Losses and gradients of a training step on any device and in any precision, from equal weights, batch and draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.arrow_steps import ArrowSteps
from benchmarks.meter_step import MeterSteps
from benchmarks.vilt_step import ViltSteps
from epic_common import generator, objective
from vlp.losses.total import losses_of
from vlp.training.compile import compile_layers
from vlp.training.matmul import set_matmul_precision

BUILDERS: dict[str, type[ArrowSteps]] = {"meter": MeterSteps, "vilt": ViltSteps}
VARIANTS = ("vanilla", "epic")
LENGTHS = (12, 7, 16, 10)  # tokens of the sentences
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
# Half the distance between neighbouring numbers: a product's inputs are rounded by at most this share.
ROUNDOFF: dict[Precision, float] = {"fp32": 2.0**-24, "tf32": 2.0**-11, "bf16": 2.0**-8, "fp16": 2.0**-11}
TYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
FLOOR = 0.1  # losses near 0 are differences of larger numbers
ATTEMPTS = 16  # of the scaler, which halves its factor after each that overflows


class Numbers(NamedTuple):
    """Of one step: every loss, and the norm of each part's gradient."""

    losses: dict[str, float]
    norms: dict[str, float]


def tolerance(precision: Precision, of_gradients: bool) -> float:
    """The share by which a loss, or the norm of a gradient, may differ from float32's on another device.

    A unit is a rounding of ``precision`` in each factor of a product, and those of its float32 sum over up to 4096
    terms, which grow like the square root of their number. Losses and norms are means over many such errors of either
    sign: they move by few units, allowed are 8, and twice as many for gradients, which pass every layer twice. What is
    lost, counted twice or badly scaled moves them by more.
    """
    unit = ROUNDOFF[precision] + 4096**0.5 * ROUNDOFF["fp32"]
    return (16 if of_gradients else 8) * unit


def built(build: type[ArrowSteps], size: str, device: str) -> ArrowSteps:
    """Models with the same random weights on every device."""
    torch.manual_seed(0)
    steps = build(size, device)
    steps.variant("epic")  # builds all
    return steps


@contextmanager
def computing(precision: Precision, device: str) -> Iterator[None]:
    """As a run computes: "fp32" with matmul_precision=highest, "tf32" with the default, the others under autocast."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if device == "cuda":
        set_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with torch.autocast(device, TYPES.get(precision), enabled=precision in TYPES):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def draws(kept: list[Tensor] | None, new: list[Tensor]) -> Iterator[None]:
    """What EPIC draws goes into ``new``; where ``kept`` is given, it draws that.

    M and the replacements follow from numbers that differ from device to device, and so do the generators.
    """
    left = iter(kept or ())

    def instead(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(*arguments: Any, **options: Any) -> Tensor:
            own = draw(*arguments, **options)
            taken = own if kept is None else next(left).to(own.device)
            assert taken.shape == own.shape
            new.append(taken.cpu())
            return taken

        return drawn

    with (
        patch.object(objective, "draw_masked", instead(objective.draw_masked)),
        patch.object(generator, "draw_tokens", instead(generator.draw_tokens)),
    ):
        yield


def numbers(
    steps: ArrowSteps,
    variant: str,
    precision: Precision,
    kept: list[Tensor] | None = None,
    lengths: Sequence[int] = LENGTHS,
) -> tuple[Numbers, list[Tensor]]:
    """One step without dropout, and what EPIC drew in it, which is ``kept`` where that is given.

    "fp16" takes torch's own loss scaler, from the factor on that it starts with in a run.
    """
    device = steps.device
    torch.manual_seed(0)  # EPIC's head is a new one each time
    chosen = steps.variant(variant)
    parts = [root for roots in chosen.parts.values() for root in roots]
    for root in (steps.student, *parts):
        root.eval().zero_grad(set_to_none=True)
    torch.manual_seed(1)
    batch, losses, new = steps.batch(lengths), dict[str, Tensor](), list[Tensor]()
    note = steps.student.register_forward_hook(lambda _, __, outputs: losses.update(losses_of(outputs)))

    def forward() -> Tensor:
        new.clear()
        torch.manual_seed(2)  # matching labels
        with computing(precision, device), draws(kept, new):
            return chosen.step(batch)

    if precision == "fp16":
        backward_scaled(forward, parts, device)
    else:
        with computing(precision, device):
            forward().backward()
    note.remove()
    norms = {name: norm_of(roots) for name, roots in chosen.parts.items()}
    found = Numbers(
        {name: float(loss.detach()) for name, loss in losses.items()}, {k: v for k, v in norms.items() if v}
    )
    for root in parts:
        root.zero_grad(set_to_none=True)
    return found, new


def backward_scaled(forward: Callable[[], Tensor], parts: Sequence[nn.Module], device: str) -> None:
    """Unscaled gradients of float16's backward pass, at the first factor that does not overflow."""
    trained = {p for root in parts for p in root.parameters() if p.requires_grad}
    scaler, optimizer = torch.amp.GradScaler(device), torch.optim.SGD(trained, lr=0.0)
    for _ in range(ATTEMPTS):
        optimizer.zero_grad()
        scaler.scale(forward()).backward()
        scaler.unscale_(optimizer)
        factor = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() >= factor:
            return
    raise AssertionError(f"every one of {ATTEMPTS} factors overflows, the last is {factor}")


def norm_of(roots: Sequence[nn.Module]) -> float:
    """Of the gradients of all parameters, in float64; 0 where there are none."""
    found = {p for root in roots for p in root.parameters()}
    return float(sum(p.grad.double().square().sum().item() for p in found if p.grad is not None)) ** 0.5


def check_close(found: Numbers, expected: Numbers, precision: Precision) -> None:
    """Every loss and every norm within its tolerance; what is not is named with both values."""
    for kind in ("losses", "norms"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        assert ours.keys() == theirs.keys()
        allowed = tolerance(precision, of_gradients=kind == "norms")
        far = {
            k: (v, theirs[k]) for k, v in ours.items() if not abs(v - theirs[k]) <= allowed * max(abs(theirs[k]), FLOOR)
        }
        assert not far, f"{precision}, {kind}, allowed {allowed:.1e}: {far}"


def check_compiled(steps: ArrowSteps, choice: bool | str) -> None:
    """EPIC's step with compiled layers, as ``compile=`` compiles them, against the same step without."""
    expected, drawn = numbers(steps, "epic", "fp32")
    for model in (steps.student, steps.language_model, steps.teacher.module):
        compile_layers(model, choice)
    found, _ = numbers(steps, "epic", "fp32", drawn)
    check_close(found, expected, "fp32")
