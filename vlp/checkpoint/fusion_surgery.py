"""What the scripts of ALBEF and X-VLM make of the text encoder in a checkpoint of pre-training.

Pre-training wraps the encoder with a language-modelling head (``text_encoder.bert.``, ``text_encoder.cls.``); the tasks
have it bare. What a file already has under a task's names stays.

Source: docs/official/albef.md §4, docs/official/xvlm.md §8.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor

from vlp.checkpoint.layout import State

_LAYER = re.compile(r"(text_encoder(?:_m)?\.(?:bert\.)?encoder\.layer\.)(\d+)(\..*)")
PRETRAINED = ("text_encoder.bert.", "text_encoder_m.bert.")  # the wrapped encoder that pre-training alone has


def without_bert(state: State, expected: State) -> dict[str, Tensor]:
    """Retrieval, grounding and VE: the text encoder of pre-training without its masked language model."""
    return {_unwrapped(name): t for name, t in state.items()}


def with_decoder(state: State, expected: State) -> dict[str, Tensor]:
    """VQA: the fusion half of the text encoder also becomes the answer decoder, its vocabulary head included.

    A file that has an answer decoder is taken as it is.
    """
    if any(name.startswith("text_decoder.") for name in state):
        return dict(state)
    first = _fusion_layer(state)
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer = _LAYER.fullmatch(name)
        if name.startswith(PRETRAINED):
            result[_unwrapped(name)] = tensor
            if layer is None:
                result[_decoder(name)] = tensor
            elif int(layer[2]) >= first:
                result[_decoder(f"{layer[1]}{int(layer[2]) - first}{layer[3]}")] = tensor
        elif name.startswith(("text_encoder.cls.", "text_encoder_m.cls.")):
            result[_decoder(name)] = tensor
        else:
            result[name] = tensor
    return result


def with_doubled_layers(state: State, expected: State) -> dict[str, Tensor]:
    """NLVR2's text assignment: each fusion layer i becomes two, one for each image.

    A file that has as many layers as the model is taken as it is.
    """
    state = without_bert(state, expected)
    if _layers(state) == _layers(expected):
        return state
    first = _fusion_layer(state)
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer = _LAYER.fullmatch(name)
        if layer is None or int(layer[2]) < first:
            result[name] = tensor
        else:
            doubled = 2 * (int(layer[2]) - first) + first
            result |= {f"{layer[1]}{i}{layer[3]}": tensor for i in (doubled, doubled + 1)}
    return result


def as_it_is(state: State, expected: State) -> dict[str, Tensor]:
    """Pre-training, and NLVR2 from a checkpoint of its text assignment."""
    return dict(state)


def _unwrapped(name: str) -> str:
    return name.replace(".bert.", ".", 1) if name.startswith(PRETRAINED) else name


def _decoder(name: str) -> str:
    return name.replace("text_encoder", "text_decoder", 1)


def _layers(state: Iterable[str]) -> int:
    """The number of layers of the text encoder."""
    return len({layer[2] for name in state if name.startswith("text_encoder.") and (layer := _LAYER.fullmatch(name))})


def _fusion_layer(state: Iterable[str]) -> int:
    """The first layer of the text encoder that attends to the image; beyond all where none does."""
    found = [int(layer[2]) for name in state if (layer := _LAYER.fullmatch(name)) and ".crossattention." in name]
    return min(found, default=_layers(state))
