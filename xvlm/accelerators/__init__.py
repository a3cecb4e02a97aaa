"""How the pre-training stages compute: precision, clipping, and the exchange of gradients, by torch or NVIDIA's apex.

Source: docs/official/xvlm.md §6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from vlp.training.settings import TrainerSettings
from vlp.yaml_dialect.launch import Processes
from vlp.yaml_dialect.settings import trainer_settings
from xvlm.accelerators.apex import ApexDDP, ApexPrecision, load_apex
from xvlm.accelerators.bounded_scaler import BoundedScaler


def settings_of(config: Mapping[str, Any], processes: Processes) -> TrainerSettings:
    """The engine's settings of a resolved config; fine-tuning has no ``accelerator``: nothing is clipped there.

    Raises:
        ValueError: apex is asked for and cannot be had.
    """
    block = config.get("accelerator")
    if block is None:
        return trainer_settings(config, processes)
    if block["backend"] == "apex":
        plugin: Any = ApexPrecision(load_apex(config), block["FP16_OPT_LEVEL"], block["FP16_LOSS_SCALE"])
        settings = replace(trainer_settings(config, processes), ddp=ApexDDP)
    else:
        settings, plugin = trainer_settings(config, processes), None
        if settings.precision == "16-mixed" and torch.cuda.is_available() and not settings.cpu:
            plugin = MixedPrecision("16-mixed", "cuda", BoundedScaler(block["FP16_LOSS_SCALE"]))
    return replace(settings, precision_plugin=plugin, clip_norm=block["CLIP_GRAD_NORM"], sync_batchnorm=block["SYNCBN"])
