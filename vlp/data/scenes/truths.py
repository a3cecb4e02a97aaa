"""The ground truth of one picture as JSON: scene, captions with salient words, and what can be asked of it."""

from __future__ import annotations

import random
from dataclasses import asdict
from typing import Any

from vlp.data.scenes.model import Caption, Scene


def truth_record(
    scene: Scene, captions: dict[int, Caption], other: Scene, other_cocoid: int, rng: random.Random
) -> dict[str, Any]:
    """Return the whole ground truth of `scene`; `other` is the second picture of the two-image statements."""
    return {
        "scene": asdict(scene),
        "captions": [_caption(sentid, caption) for sentid, caption in captions.items()],
    }


def _caption(sentid: int, caption: Caption) -> dict[str, Any]:
    return {
        "sentid": sentid,
        "raw": caption.text,
        "salient": [[span.start, span.end] for span in caption.salient],
        "spans": [asdict(span) for span in caption.spans],
    }
