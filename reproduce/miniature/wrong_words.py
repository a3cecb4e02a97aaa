"""Wrong words found without training for it: both heads of a checkpoint on the foils of the held-out scenes."""

from __future__ import annotations

from pathlib import Path

from reproduce.figures.configuration import config_of
from reproduce.foils.entries import of_scenes
from reproduce.foils.judges import load_judge
from reproduce.foils.measures import Numbers, judge_foils, measure
from vlp.baseline import get_baseline

SPLIT = "test"  # the pictures of zero-shot retrieval


def judged_foils(baseline: str, checkpoint: Path, scenes: Path) -> Numbers:
    """What ``python -m reproduce foils --scenes`` tells of all foils together (docs/foils.md).

    Args:
        baseline: its name.
        checkpoint: of a run with EPIC, with the run's configuration.
        scenes: folder of the images and their truth.

    Raises:
        ValueError, WeightsError: configuration or checkpoint do not serve.
        OSError, ValueError, DataError: nor does the truth, or an image.
    """
    description = get_baseline(baseline)
    config = config_of(description, checkpoint, None, (), trains=False)
    foils = of_scenes(scenes, SPLIT)
    return measure(judge_foils(load_judge(description, config, checkpoint), foils))
