"""Made-up results of the miniature, for tests alone: no number in them was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reproduce.miniature.claims import CLAIMS
from reproduce.miniature.results import Run, write_run
from vlp.files import write_json

STEPS = (20, 40, 60, 80, 100)


def made_up_run(baseline: str, variant: str, seed: int, recall: float, **changes: Any) -> Run:
    """A run whose mean R@1 rises in a straight line to ``recall``, its TR by 2 above its IR."""
    points = [{"step": step, "tr_r1": recall * step / 100 + 1, "ir_r1": recall * step / 100 - 1} for step in STEPS]
    values: dict[str, Any] = {
        **{"baseline": baseline, "variant": variant, "seed": seed, "steps": 100},
        **{"config_hash": f"{variant} {seed}", "commit": "0123456789abcdef", "dirty": False},
        **{
            "command": ["python", "-m", "reproduce", "miniature", "run"],
            "settings": {"images": 8, "baseline": {"lr": 0.1}, "epic": {"name": variant}},
        },
        "points": points,
    }
    return Run(**{**values, **changes})


def complete(baseline: str, variant: str, seed: int, recall: float, **changes: Any) -> Run:
    """A run with everything that a run can have."""
    more: dict[str, Any] = {
        "fine_tuned": {"task": "nlvr2", "accuracy": 50 + recall, "chance": 50.0},
        "curves": {"epic_replaced_share": [[step, 0.9 - step / 200] for step in range(0, 100, 10)]},
        "false_negatives": [{"step": step, "share": step / 400, "replaced": 10} for step in STEPS],
        "foils": {"itc": {"auroc": 0.7 + seed / 100, "accuracy": 60.0 + seed}, "itm": {"accuracy": 55.0}},
        **{"salient_mass": 0.4 + seed / 100, "flops_per_step": 2e9 if variant == "epic" else 1e9},
        **{"seconds": {"pretraining": 30.0}, "machine": {"cpu": "none", "torch": "0"}},
    }
    return made_up_run(baseline, variant, seed, recall, **{**more, **changes})


def write_all(folder: Path, runs: Iterable[Run]) -> Path:
    """Write the files of runs; the folder of the results."""
    for run in runs:
        write_run(folder, run)
    return folder


def write_everything(folder: Path, seeds: int = 5) -> Path:
    """Every run that a claim needs, Fig. 2's records and a calibration; the folder of the results."""
    needed = dict.fromkeys(pair for claim in CLAIMS for pair in claim.runs)
    for place, (baseline, variant) in enumerate(needed):
        write_all(folder, (complete(baseline, variant, seed, 10 + place + seed % 3) for seed in range(1, seeds + 1)))
    write_figures(folder, seeds)
    tried = {"baseline": "meter", "settings": {"lr": 0.1}, "tr_r1": 11.0, "ir_r1": 12.0}
    write_json(
        folder / "calibration.json",
        {
            "chosen": {"meter": {"changes": {"lr": 0.1}, "of": ""}},
            "tried": [{**tried, "seconds": 300.0, "commit": "abc"}],
        },
    )
    return folder


def write_figures(folder: Path, seeds: int) -> None:
    """The records of Fig. 2 with so many repeats."""
    write_figure(folder, "2a", {seed: ([0.1, 0.8 + seed / 100], [0.1, 0.7]) for seed in range(seeds)})
    write_figure(folder, "2b", {seed: ([0.0, 0.5 + seed / 100], [0.0, 0.52]) for seed in range(seeds)})


def write_figure(folder: Path, name: str, repeats: Mapping[int, tuple[list[float], list[float]]]) -> Path:
    """A record of Fig. 2a (accuracies at two steps) or 2b (drops at two shares): with the image, text alone."""
    rows: list[dict[str, Any]] = []
    for seed, (seen, unseen) in repeats.items():
        values = {"with_image": seen, "text_only": unseen}
        rows.append({"seed": seed, **({"steps": [0, 10], **values} if name == "2a" else {"drop": values})})
    places = {"steps": [0, 10]} if name == "2a" else {"shares": [0.0, 1.0]}
    path = folder / f"figure{name}.json"
    write_json(path, {"figure": name, "baseline": "meter", **places, "repeats": rows})
    return path
