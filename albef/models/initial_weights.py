"""The weights that ALBEF's models are built with: DeiT's and BERT's in pre-training, a checkpoint's downstream.

``init`` decides, per tower: ``pretrained`` (default: DeiT-B/16 of timm's hub; the BERT of ``text_encoder``, a hub name
or local folder), ``random``, or a file or folder of one's own. Cross-attention has no pre-trained weights.

Source: docs/official/albef.md §4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from albef.models.checkpoints import interpolated
from vlp.initial_bert import load_bert
from vlp.initial_weights import Found, fill_encoder, resolve_init, timm_weights, vision_file
from vlp.yaml_dialect.towers import towers_start

DEIT = "deit_base_patch16_224.fb_in1k"
ORIGINAL = "deit_base_patch16_224-b5f2ef4d.pth"
_VISION_INSTEAD = f"give init.vision=FILE ({ORIGINAL}), or init=random to start from random encoders"


def load_initial_weights(model: nn.Module, pretraining: bool = False, keep_text: bool = False) -> None:
    """Fill the encoders of ``model`` as its config's ``init`` says, unless a checkpoint will bring them.

    Args:
        keep_text: fill the text encoder even before a checkpoint; NLVR2's official teacher keeps that start.

    Raises:
        ValueError: see :func:`towers_start`.
        HubError: a hub name whose weights cannot be had.
        WeightsError: weights that cannot be read or do not fit.
    """
    config: Mapping[str, Any] = model.config  # type: ignore[assignment]
    init = towers_start(config, pretraining)
    if keep_text and config["checkpoint"] and not config["resume_from"]:
        init["text"] = resolve_init(config["init"])["text"]
    if init["vision"] != "random":
        load_vision(model.visual_encoder, init["vision"])  # type: ignore[arg-type]
    for name in ("text_encoder", "text_decoder") if init["text"] != "random" else ():
        if hasattr(model, name):
            source = config[name] if init["text"] == "pretrained" else init["text"]
            load_bert(getattr(model, name), source, "bert_config", config["bert_config"]["num_hidden_layers"])


def load_vision(encoder: nn.Module, source: str) -> None:
    """Fill an image encoder from a local file or, for "pretrained", from timm's hub.

    Raises:
        HubError: the hub's cannot be had.
        WeightsError: no such weights, or weights of another size.
    """
    if source == "pretrained":
        found = Found.of_hub(timm_weights(DEIT, _VISION_INSTEAD), DEIT)
    else:
        found = vision_file(source, _VISION_INSTEAD)
    fill_encoder(encoder, "vision", found, "vision_config", resized=interpolated)
