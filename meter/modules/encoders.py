"""METER's two encoders: which ones a config names, and their pre-trained weights (docs/official/meter.md §4).

``init`` decides what they start from, per tower: ``pretrained`` (default: the official weights of ``vit``; the text
weights of ``tokenizer``, a hub name or local folder), ``random``, or a hub name or local file of one's own.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
)

from meter.modules.checkpoints import resized_positions
from meter.modules.clip_model import ClipVisualTower, clip_key
from meter.modules.sizes import CLIP_SIZES, SWIN_SIZES
from meter.modules.swin_transformer import SwinTower
from meter.modules.vision_tower import VisionTower
from vlp.checkpoint.forms import SUFFIXES
from vlp.checkpoint.weights import (
    WeightsError,
    check_finite,
    check_tensors,
    read_state_dict,
    sha256_of_file,
    sha256_of_tensors,
)
from vlp.hub import HubError, hub_access, is_path
from vlp.initial_weights import pretrained_text, resolve_init, timm_weights
from vlp.nn.official_names import swin_key

log = logging.getLogger(__name__)

_ROBERTA: dict[str, Any] = {
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "layer_norm_eps": 1e-5,
    "type_vocab_size": 1,
}
_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
# The sizes of the official text encoders, so that building them needs no download.
TEXT_CONFIGS: dict[str, PretrainedConfig] = {
    "bert-base-uncased": BertConfig(),
    "roberta-base": RobertaConfig(**_ROBERTA),
    "roberta-large": RobertaConfig(**_ROBERTA, **_LARGE),
}

_VISION_INSTEAD = (
    "give init.vision=FILE (CLIP's ViT-B-16.pt, a Swin .pth), or init=random to start from random encoders"
)
_TEXT_INSTEAD = (
    "give tokenizer=FOLDER or init.text=FOLDER with config.json and weights, or init=random to start from random "
    "encoders"
)


class Encoders(NamedTuple):
    """vision: images (B, 3, S, S) -> (B, N, w); text: a transformers BertModel or RobertaModel."""

    vision: VisionTower
    text: PreTrainedModel


def build_encoders(config: dict[str, Any]) -> Encoders:
    """Both towers of a resolved config, with their pre-trained weights unless a checkpoint will bring them.

    Raises:
        ValueError: sizes of the text encoder that contradict the config.
        HubError: a hub name whose weights cannot be had.
        WeightsError: weights that cannot be read or do not fit.
    """
    init = resolve_init(config["init"])
    if config["load_path"] or config["resume_from"]:
        init = {"vision": "random", "text": "random"}  # the checkpoint holds both towers
    encoders = Encoders(_build_vision(config), _build_text(config, init["text"]))
    if init["vision"] != "random":
        _load_vision(encoders.vision, init["vision"], config)
    return encoders


def _build_vision(config: dict[str, Any]) -> VisionTower:
    name, size = config["vit"], config["image_size"]
    tower: VisionTower
    if name in CLIP_SIZES:
        tower = ClipVisualTower(CLIP_SIZES[name], size)
    else:
        tower = SwinTower(SWIN_SIZES[name], size)
    return tower


def _build_text(config: dict[str, Any], init: str) -> PreTrainedModel:
    name = config["tokenizer"]
    if init == "random":
        text = AutoModel.from_config(TEXT_CONFIGS[name] if name in TEXT_CONFIGS else _local_text_config(name))
    else:
        text = _load_text(name if init == "pretrained" else init)
    for key, have in (("input_text_embed_size", text.config.hidden_size), ("vocab_size", text.config.vocab_size)):
        if config[key] != have:
            raise ValueError(f"{key}={config[key]}, but the text encoder of tokenizer={name} has {have}")
    if config["max_text_len"] > text_positions(text.config):
        raise ValueError(f"max_text_len={config['max_text_len']}: {name} has {text_positions(text.config)} positions")
    return text


def _load_text(source: str) -> PreTrainedModel:
    text, missing = pretrained_text(AutoModel, source, _TEXT_INSTEAD)
    # A masked language model brings no pooler, and METER reads none.
    if missing := [name for name in missing if not name.startswith("pooler.")]:
        raise WeightsError(
            f"text encoder {source!r} lacks {missing[:3]} ({len(missing)} tensors) of its own config.json"
        )
    check_finite(f"text encoder {source}", text.named_parameters())
    text.train()  # transformers loads in eval mode, and Lightning leaves modes as they are: no dropout in training
    log.info("[init] text: %s, sha256 of its tensors %s", source, sha256_of_tensors(text.state_dict()))
    return text


def text_positions(config: PretrainedConfig) -> int:
    """How many tokens fit: RoBERTa numbers its positions from pad_id + 1."""
    offset = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return config.max_position_embeddings - offset


def _local_text_config(name: str) -> PretrainedConfig:
    try:
        with hub_access("tokenizer", name, f"give one of {', '.join(TEXT_CONFIGS)}, or a folder with a config.json"):
            return AutoConfig.from_pretrained(name)
    except HubError:
        raise
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"tokenizer={name}: neither one of {', '.join(TEXT_CONFIGS)} nor a folder with a config.json"
        ) from error


def _load_vision(tower: VisionTower, init: str, config: dict[str, Any]) -> None:
    is_clip = isinstance(tower, ClipVisualTower)
    if init == "pretrained":
        init = (CLIP_SIZES if is_clip else SWIN_SIZES)[config["vit"]].pretrained or ""
        if not init:
            raise WeightsError(f"vit={config['vit']} has no official weights; give init.vision=<file> or init=random")
    if is_path(init) or Path(init).suffix in SUFFIXES:
        state = _official_file(read_state_dict(init))
        digest = sha256_of_file(init)
    else:
        state = _from_hub(init, is_clip)
        digest = sha256_of_tensors(state)
    expected = tower.state_dict()
    state = {name: value.float() for name, value in state.items() if name in expected}
    state = resized_positions(init, state, expected)
    check_tensors(init, state, expected, "Check vit and image_size")
    rebuilt = ("relative_position_index", "attn_mask")
    optional = (
        "positional_embedding",
        "ln_final.weight",
        "ln_final.bias",
        *(n for n in expected if n.endswith(rebuilt)),
    )
    if missing := [name for name in expected if name not in state and name not in optional]:
        raise WeightsError(f"{init} lacks {missing[:3]} ({len(missing)} tensors) of vit={config['vit']}")
    tower.load_state_dict(state, strict=False)
    log.info("[init] vision: %s, %d tensors, sha256 %s", init, len(state), digest)


def _official_file(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """CLIP's own archive (``visual.*`` and its text side) or a Swin file, less the buffers that the size decides."""
    return {name: t for name, t in state.items() if not name.endswith(("relative_position_index", "attn_mask"))}


def _from_hub(name: str, is_clip: bool) -> dict[str, Tensor]:
    source = timm_weights(name, _VISION_INSTEAD)
    if not is_clip:
        return {swin_key(key): value for key, value in source.items()}
    flat = {"cls_token": lambda t: t.flatten(), "pos_embed": lambda t: t.squeeze(0)}
    return {"visual." + clip_key(key): flat.get(key, lambda t: t)(value) for key, value in source.items()}
