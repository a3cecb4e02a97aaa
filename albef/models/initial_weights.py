"""The weights that ALBEF's models are built with: DeiT's and BERT's in pre-training, a checkpoint's downstream.

``init`` decides, per tower: ``pretrained`` (default: DeiT-B/16 of timm's hub; the BERT of ``text_encoder``, a hub name
or local folder), ``random``, or a file or folder of one's own. Cross-attention has no pre-trained weights.

Source: docs/official/albef.md §4.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from vlp.checkpoint.recognition import KNOWN_EXTRAS
from vlp.checkpoint.weights import WeightsError, check_shapes, read_state_dict, sha256_of_file, sha256_of_tensors
from vlp.initial_weights import pretrained_text, resolve_init, timm_weights
from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM
from vlp.nn.positions import interpolate_pos_embed

log = logging.getLogger(__name__)

DEIT = "deit_base_patch16_224.fb_in1k"
ORIGINAL = "deit_base_patch16_224-b5f2ef4d.pth"
_VISION_INSTEAD = f"give init.vision=FILE ({ORIGINAL}), or init=random to start from random encoders"
_TEXT_INSTEAD = (
    "give text_encoder=FOLDER or init.text=FOLDER with config.json and weights, or init=random to start from random "
    "encoders"
)
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of LayerNorm in BERT's first files


def load_initial_weights(model: nn.Module, pretraining: bool = False, keep_text: bool = False) -> None:
    """Fill the encoders of ``model`` as its config's ``init`` says, unless a checkpoint will bring them.

    Args:
        keep_text: fill the text encoder even before a checkpoint; NLVR2's official teacher keeps that start.

    Raises:
        ValueError: ``init`` is neither of its words; or a downstream model has no checkpoint and ``init`` does not say
            what it starts from instead: a random image encoder is hardly meant.
        HubError: a hub name whose weights cannot be had.
        WeightsError: weights that cannot be read or do not fit.
    """
    config: Mapping[str, Any] = model.config  # type: ignore[assignment]
    init = resolve_init(config["init"])
    if config["resume_from"] or (config["checkpoint"] and not keep_text):
        return
    if config["checkpoint"]:
        init["vision"] = "random"
    elif not pretraining and init["vision"] == "pretrained":
        raise ValueError(
            "checkpoint: none is given, and this task starts from a pre-trained one: give --checkpoint FILE, or say "
            "what to start from instead, such as init=random"
        )
    if init["vision"] != "random":
        load_vision(model.visual_encoder, init["vision"])  # type: ignore[arg-type]
    for name in ("text_encoder", "text_decoder") if init["text"] != "random" else ():
        if hasattr(model, name):
            source = config[name] if init["text"] == "pretrained" else init["text"]
            load_text(getattr(model, name), source, config["bert_config"]["num_hidden_layers"])


def load_vision(encoder: nn.Module, source: str) -> None:
    """Fill an image encoder from a local file or, for "pretrained", from timm's hub.

    Raises:
        HubError: the hub's cannot be had.
        WeightsError: no such weights, or weights of another size.
    """
    if source == "pretrained":
        state, source = timm_weights(DEIT, _VISION_INSTEAD), DEIT
        digest = sha256_of_tensors(state)
    elif Path(source).exists():
        state, digest = read_state_dict(source), sha256_of_file(source)
    else:
        raise WeightsError(f"init.vision={source}: no such file; {_VISION_INSTEAD}")
    expected = encoder.state_dict()
    state = {name: value.float() for name, value in state.items() if name in expected}
    try:
        if "pos_embed" in state:
            state["pos_embed"] = interpolate_pos_embed(state["pos_embed"], expected["pos_embed"].shape[1])
    except ValueError as error:
        raise WeightsError(f"{source}: {error}") from error
    check_shapes(source, state, expected, "Check vision_config")
    if missing := [name for name in expected if name not in state]:
        raise WeightsError(f"{source} lacks {missing[:3]} ({len(missing)} tensors) of vision_config's transformer")
    encoder.load_state_dict(state)
    log.info("[init] vision: %s, %d tensors, sha256 %s", source, len(state), digest)


def load_text(encoder: FusionEncoder | FusionMaskedLM, source: str, layers: int) -> None:
    """Fill all but the cross-attention of an encoder from a BERT on the hub, in a folder or in a file.

    Args:
        layers: of them the BERT must have weights; an encoder's further ones stay as built (NLVR2's).

    Raises:
        HubError: the hub's cannot be had.
        WeightsError: no BERT, or one of another size.
    """
    state, digest = _bert(source)
    if isinstance(encoder, FusionEncoder):
        state = {name.removeprefix("bert."): t for name, t in state.items() if name.startswith("bert.")}
    expected = {name: t for name, t in encoder.state_dict().items() if not name.endswith(KNOWN_EXTRAS)}
    state = {name: value.float() for name, value in state.items() if name in expected}
    check_shapes(source, state, expected, "Check bert_config")
    missing = [name for name in expected if name not in state and not _may_lack(name, layers)]
    if missing:
        raise WeightsError(f"text encoder {source} lacks {missing[:3]} ({len(missing)} tensors) of bert_config")
    encoder.load_state_dict(state, strict=False)
    log.info("[init] text: %s, %d tensors, sha256 %s", source, len(state), digest)


def _may_lack(name: str, layers: int) -> bool:
    """Whether no BERT has it: cross-attention, layers beyond ``layers``, and the second names of tied tensors."""
    layer = re.search(r"\.layer\.(\d+)\.", name)
    return (
        ".crossattention." in name
        or (layer is not None and int(layer[1]) >= layers)
        or name.startswith("cls.predictions.decoder.")
    )


def _bert(source: str) -> tuple[dict[str, Tensor], str]:
    """A BERT's tensors under the names of a masked language model, ``bert.`` and ``cls.``, and their SHA-256."""
    if Path(source).is_file():
        state, digest = read_state_dict(source), sha256_of_file(source)
        state = {_of_today(name): value for name, value in state.items()}
        if not any(name.startswith("bert.") for name in state):
            state = {f"bert.{name}": value for name, value in state.items()}
    else:
        text, lacking = pretrained_text(AutoModelForMaskedLM, source, _TEXT_INSTEAD)
        state = {name: t for name, t in text.state_dict().items() if name not in lacking}
        digest = f"of its tensors {sha256_of_tensors(state)}"
    if not any(name.startswith("bert.encoder.layer.") for name in state):
        raise WeightsError(f"text encoder {source}: is no BERT (its first tensors are {sorted(state)[:3]})")
    return state, digest


def _of_today(name: str) -> str:
    head, _, last = name.rpartition(".")
    return f"{head}.{_OLD_NAMES[last]}" if last in _OLD_NAMES else name
