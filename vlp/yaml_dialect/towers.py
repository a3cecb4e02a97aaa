"""What the towers of a model of ALBEF or X-VLM start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlp.initial_weights import resolve_init


def towers_start(config: Mapping[str, Any], pretraining: bool) -> dict[str, str]:
    """What the towers of a model with image-text pre-training start from: "random" where a checkpoint brings them.

    Raises:
        ValueError: ``init`` is neither of its words; or a downstream model has no checkpoint and ``init`` does not say
            what it starts from instead: a random image encoder is hardly meant.
    """
    init = resolve_init(config["init"])
    if config["resume_from"] or config["checkpoint"]:
        return dict.fromkeys(init, "random")
    if not pretraining and init["vision"] == "pretrained":
        raise ValueError(
            "checkpoint: none is given, and this task starts from a pre-trained one: give --checkpoint FILE, or say "
            "what to start from instead, such as init=random"
        )
    return init
