"""What the demo adds to a baseline's description: how fast a small model learns, and how Fig. 5 reads its attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from demo.judgement import Judgement, meter_judgement, vilt_judgement
from vlp.baseline import get_baseline
from vlp.sacred_dialect.baseline import SacredBaseline


@dataclass(frozen=True)
class DemoBaseline:
    """A baseline as the demo sees it.

    Attributes:
        description: its own words.
        output: the demo's folder below ``runs``.
        learning: items that say how fast so small a model learns in so few steps.
        steps, step_seconds: for ten minutes on two CPU cores, and how long one takes there without EPIC.
        judge: the EPIC model's verdict on a caption, with the attention map that led to it.
    """

    description: SacredBaseline
    output: str
    learning: Sequence[str]
    steps: int
    step_seconds: float
    judge: Callable[[Any, dict[str, Any], Tensor], Judgement]


BASELINES = {
    "meter": DemoBaseline(get_baseline("meter"), "demo", ("learning_rate=3e-4",), 580, 0.26, meter_judgement),
    "vilt": DemoBaseline(
        get_baseline("vilt"),
        "demo_vilt",
        # Nothing in it is trained before, and its official warm-up has 2500 steps.
        ("learning_rate=1e-3", "warmup_steps=0.1"),
        1000,
        0.13,
        vilt_judgement,
    ),
}
