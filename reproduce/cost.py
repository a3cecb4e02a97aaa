"""What the pre-training of a row costs, from ``benchmarks.cost``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.cost import RECIPES, cost_of
from benchmarks.gpus import GPUS
from reproduce.experiments import Stage

GPU, UTILISATION = "A100-80", 0.35
PRECISION = {"meter": "tf32", "albef": "tf32", "vilt": "bf16", "xvlm": "bf16"}  # official: float32, or float16 as bf16
PAIRS_OF_A_GPU = {"meter": 32, "meter-ablation": 64, "vilt": 64, "albef": 64, "xvlm": 128}
ASSUMED = (
    f"Hours: pre-training alone, of the steps as computed here, at an assumed {UTILISATION:.0%} of the peak of {GPU} "
    "(METER and ALBEF tf32, ViLT and X-VLM 16 bit); no GPU was timed. The variants of Tables 4 and 5 are counted as "
    "EPIC. GiB of a GPU: weights, gradients and AdamW's moments, and what the backward pass needs. "
    "python -m benchmarks.cost has other GPUs and shares."
)


@dataclass(frozen=True)
class StageCost:
    """Of a pre-training stage.

    Attributes:
        gpus: all of them.
        gpu_hours: of one GPU.
        gib: of each.
    """

    gpus: int
    gpu_hours: float
    gib: float

    @property
    def hours(self) -> float:
        """On all GPUs."""
        return self.gpu_hours / self.gpus


def stage_cost(stage: Stage) -> StageCost | None:
    """Of a stage on its official GPUs; None where it has no recipe."""
    if stage.cost is None:
        return None
    name, variant = stage.cost
    recipe, gpus = RECIPES[name], stage.gpus * stage.nodes
    counted = "vanilla" if variant == "vanilla" else "epic"
    found = cost_of(recipe, counted, GPUS[GPU], gpus, UTILISATION, PAIRS_OF_A_GPU[name])
    hours = found.gpu_hours[PRECISION[stage.baseline]]
    assert hours is not None
    longer = stage.pairs / recipe.pairs if stage.pairs else 1.0
    return StageCost(gpus, hours * longer, found.weights_gib + found.activations_gib)


def cost_line(stages: Iterable[Stage]) -> str:
    """``32 x A100-80: 103 h, 38 GiB each`` of the pre-training among them; empty: there is none."""
    found = [cost for stage in stages if (cost := stage_cost(stage))]
    if not found:
        return ""
    gpus = max(cost.gpus for cost in found)
    hours = sum(cost.hours for cost in found)
    return f"{gpus} x {GPU}: {hours:,.0f} h, {max(cost.gib for cost in found):.0f} GiB each"
