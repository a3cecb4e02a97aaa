"""What a retrieval evaluation costs: ``python -m benchmarks.cost --evaluation coco``.

FLOPs = pairs x FLOPs per pair + images x FLOPs per image + texts x FLOPs per text, of ``scoring.json``; hours from an
assumed share of the peak, as of training. ``python -m benchmarks.evaluation_cost`` counts them anew, by
``benchmarks.retrieval_scoring --flops-only`` of every baseline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.gpus import PRECISIONS, Gpu
from vlp.files import write_json
from vlp.safe_output import make_output_safe

COUNTED = Path(__file__).parent / "scoring.json"


class TestSet(NamedTuple):
    """A split of the Karpathy lists, and how many candidates ALBEF and X-VLM re-rank on it."""

    title: str
    images: int
    texts: int
    k_test: int


# Source: docs/official/albef.md §2, docs/official/xvlm.md §2 (k_test).
TEST_SETS = {
    "coco": TestSet("COCO 5K test", 5_000, 25_010, 256),
    "f30k": TestSet("Flickr30k 1K test", 1_000, 5_000, 128),
}
RERANKED = ("albef", "xvlm")
# That are counted with an image: of a re-ranking about as many as ask for it, since they share its keys and values.
TEXTS = {"pairs": "16", "reranked": "256"}


class EvaluationCost(NamedTuple):
    """One baseline on one test set and type of GPU."""

    pairs: int  # that pass the fusion layers; of a re-ranking at most
    pflop: float
    plain_pflop: float  # of a loop that computes everything for every pair
    gpu_hours: dict[str, float | None]  # by precision, None where the GPU has none


def pairs_of(baseline: str, test_set: TestSet) -> int:
    """Fusion passes: all pairs, or the k_test candidates of each image and of each text.

    Of a re-ranking it is the most that there can be: a pair that both directions ask for is scored once.
    """
    if baseline in RERANKED:
        return min((test_set.images + test_set.texts) * test_set.k_test, test_set.images * test_set.texts)
    return test_set.images * test_set.texts


def evaluation_cost(baseline: str, test_set: TestSet, gpu: Gpu, utilisation: float) -> EvaluationCost:
    """FLOPs and GPU hours of one baseline, a key of ``scoring.json``."""
    counted, pairs = counted_of(baseline), pairs_of(baseline, test_set)
    per_pair = counted["gflop_per_pair"]
    encoders = test_set.images * counted["gflop_per_image"] + test_set.texts * counted["gflop_per_text"]
    # METER's and ViLT's count of a pair holds what its encoders did for it; the floor is the fusion pass alone.
    gflop = pairs * per_pair["ours" if baseline in RERANKED else "floor"] + encoders
    plain = pairs * per_pair["official"] + (encoders if baseline in RERANKED else 0)
    hours = {p: (peak := gpu.peak(p)) and gflop / (peak * 1e3 * utilisation) / 3600 for p in PRECISIONS}
    return EvaluationCost(pairs, gflop / 1e6, plain / 1e6, hours)


def counted_of(baseline: str) -> dict[str, Any]:
    """GFLOP per pair, image and text of a baseline."""
    return json.loads(COUNTED.read_text(encoding="utf-8"))[baseline]


def print_evaluation(console: Console, name: str, gpu_name: str, costs: Mapping[str, EvaluationCost]) -> None:
    """A row for each baseline, and what the figures rest on."""
    test_set = TEST_SETS[name]
    table = Table(
        *("baseline", "fusion passes", "PFLOP", "plain loop", *PRECISIONS),
        title=f"{test_set.title}: {test_set.images:,} images, {test_set.texts:,} texts; GPU hours on {gpu_name}",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for baseline, cost in costs.items():
        hours = ("–" if value is None else f"{value:,.2f}" for value in cost.gpu_hours.values())
        table.add_row(baseline, f"{cost.pairs:,}", f"{cost.pflop:,.1f}", f"{cost.plain_pflop:,.1f}", *hours)
    console.print(table)
    console.print(
        f"METER and ViLT fuse every pair, ALBEF and X-VLM at most k_test={test_set.k_test} of each image and text. "
        "METER and ViLT evaluate in fp16 on a GPU, at bf16's peak. Ranks share images: divide by the number of GPUs.",
        soft_wrap=True,
    )


def count(baseline: str) -> dict[str, Any]:
    """GFLOP per pair, image and text of a baseline at its official size."""
    from benchmarks.retrieval_scoring import measure, parse  # the plan itself needs no torch

    texts = TEXTS["reranked" if baseline in RERANKED else "pairs"]
    found = measure(parse(["--baseline", baseline, "--texts", texts, "--official-pairs", "4", "--flops-only"]))
    return {key: found[key] for key in ("gflop_per_pair", "gflop_per_image", "gflop_per_text", "settings")}


def main() -> None:
    """Write ``scoring.json``."""
    counted: dict[str, Any] = json.loads(COUNTED.read_text(encoding="utf-8")) if COUNTED.exists() else {}
    for baseline in ("albef", "xvlm", "vilt", "meter"):
        counted[baseline] = count(baseline)
        write_json(COUNTED, counted)
    print(f"written: {COUNTED}")


if __name__ == "__main__":
    make_output_safe()
    main()
