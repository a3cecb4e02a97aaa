"""The weights that X-VLM's models are built with: Swin's and BERT's in pre-training, a checkpoint's downstream.

``init`` decides, per tower: ``pretrained`` (default: the file ``vision_config.ckpt``, of DeiT its own official one,
where it is missing the same weights of timm's hub; the BERT of ``text_encoder``, a hub name or local folder),
``random``, or a file or folder of one's own. Cross-attention has no pre-trained weights.

Source: docs/official/xvlm.md §4.2, §4.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from vlp.initial_bert import load_bert
from vlp.initial_weights import Found, fill_encoder, timm_weights, vision_file
from vlp.nn.official_names import swin_key
from vlp.yaml_dialect.towers import towers_start
from xvlm.models.checkpoints import interpolated
from xvlm.models.clip_weights import from_transformers

# timm's names of the official files' weights.
SWIN = "swin_base_patch4_window7_224.ms_in22k"
CLIP = "vit_base_patch16_clip_quickgelu_224.openai"
DEIT = "deit_base_patch16_224.fb_in1k"
DEIT_FILE = "data/deit_base_patch16_224-b5f2ef4d.pth"  # no key names it


def load_initial_weights(model: nn.Module, pretraining: bool = False) -> None:
    """Fill the encoders of ``model`` as its config's ``init`` says, unless a checkpoint will bring them.

    Raises:
        ValueError: see :func:`towers_start`.
        HubError: a hub name whose weights cannot be had.
        WeightsError: weights that cannot be read or do not fit.
    """
    config: Mapping[str, Any] = model.config  # type: ignore[assignment]
    init = towers_start(config, pretraining)
    if init["vision"] != "random":
        load_vision(model.vision_encoder, init["vision"], config)  # type: ignore[arg-type]
    for name in ("text_encoder", "text_decoder") if init["text"] != "random" else ():
        if hasattr(model, name):
            load_text(getattr(model, name), init["text"], config)


def load_vision(encoder: nn.Module, source: str, config: Mapping[str, Any]) -> None:
    """Fill an image encoder from a local file or, for "pretrained", from the official one or else timm's hub.

    Tables of another image size are interpolated.

    Raises:
        HubError: the hub's cannot be had.
        WeightsError: no such weights, or weights of another size.
    """
    official, name = config["vision_config"]["ckpt"], CLIP if config["use_clip_vit"] else SWIN
    if not (config["use_clip_vit"] or config["use_swin"]):
        official, name = DEIT_FILE, DEIT
    key = "" if official == DEIT_FILE else "vision_config.ckpt="
    instead = f"put the official file at {key}{official}, give init.vision=FILE, or init=random"
    if source == "pretrained" and not Path(official).is_file():
        found = Found.of_hub({swin_key(each): tensor for each, tensor in timm_weights(name, instead).items()}, name)
    else:
        found = vision_file(official if source == "pretrained" else source, instead)
    if config["use_clip_vit"]:
        found = found._replace(state=from_transformers(found.state))
    fill_encoder(encoder, "vision", found, "vision_config", resized=interpolated)


def load_text(encoder: Any, source: str, config: Mapping[str, Any]) -> None:
    """Fill all but the cross-attention of a text encoder or decoder; "pretrained" is the BERT of ``text_encoder``.

    With ``load_bertL_by_sep`` the fusion layers start from every second one of the BERT's upper layers: from 13, 15, …,
    23 of BERT-large below a text encoder of 12 layers.

    Raises:
        HubError: the hub's cannot be had.
        WeightsError: no BERT, or one of another size.
    """
    first = config["text_config"]["fusion_layer"]

    def every_second(layer: int) -> int:
        return layer if layer < first else first + 1 + 2 * (layer - first)

    load_bert(
        encoder,
        config["text_encoder"] if source == "pretrained" else source,
        "text_config",
        config["text_config"]["num_hidden_layers"],
        every_second if config.get("load_bertL_by_sep") else None,
    )
