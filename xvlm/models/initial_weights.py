"""The weights that X-VLM's models are built with."""

from __future__ import annotations

from typing import Any

from torch import nn


def load_initial_weights(model: nn.Module, pretraining: bool = False) -> None:
    """Fill the encoders of ``model`` as its config's ``init`` says, unless a checkpoint will bring them."""
    config: Any = model.config
    if config["init"] != "random" and not (config["checkpoint"] or config["resume_from"]):
        raise ValueError(f"init={config['init']!r}: only random is known yet")
