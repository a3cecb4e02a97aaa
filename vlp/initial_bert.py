"""The text weights that fusion encoders start from: a BERT's, from the hub, a folder or a file.

A BERT has nothing for cross-attention, which stays as built.

Source: docs/official/albef.md §4, docs/official/xvlm.md §4.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from transformers import AutoModelForMaskedLM

from vlp.checkpoint.weights import WeightsError
from vlp.initial_weights import Found, fill_encoder, pretrained_text
from vlp.nn.fusion_bert import FusionEncoder, FusionMaskedLM

TEXT_INSTEAD = (
    "give text_encoder=FOLDER or init.text=FOLDER with config.json and weights, or init=random to start from random "
    "encoders"
)
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of LayerNorm in BERT's first files
_LAYER = re.compile(r"(.*\.layer\.)(\d+)(\..*)")


def load_bert(
    encoder: FusionEncoder | FusionMaskedLM,
    source: str,
    key: str,
    layers: int,
    source_layer: Callable[[int], int] | None = None,
) -> None:
    """Fill all but the cross-attention of an encoder from a BERT on the hub, in a folder or in a file.

    Args:
        key: of the config, that gives the encoder's sizes.
        layers: of them the BERT must have weights; an encoder's further ones stay as built (NLVR2's).
        source_layer: layer of the encoder -> the BERT's that it starts from; by default the same.

    Raises:
        HubError: the hub's cannot be had.
        WeightsError: no BERT, or one of another size.
    """
    found = bert_weights(source)
    state = found.state
    if isinstance(encoder, FusionEncoder):
        state = {name.removeprefix("bert."): t for name, t in state.items() if name.startswith("bert.")}
    if source_layer is not None:
        state = _chosen(state, layers, source_layer, source)
    fill_encoder(encoder, "text", found._replace(state=state), key, lambda name: _may_lack(name, layers))


def bert_weights(source: str) -> Found:
    """A BERT's tensors under the names of a masked language model, ``bert.`` and ``cls.``.

    Raises:
        HubError: the hub's cannot be had.
        WeightsError: no BERT.
    """
    if Path(source).is_file():
        found = Found.in_file(source)
        state = {_of_today(name): value for name, value in found.state.items()}
        if not any(name.startswith("bert.") for name in state):
            state = {f"bert.{name}": value for name, value in state.items()}
        found = found._replace(state=state)
    else:
        text, lacking = pretrained_text(AutoModelForMaskedLM, source, TEXT_INSTEAD)
        found = Found.of_hub({name: t for name, t in text.state_dict().items() if name not in lacking}, source)
    if not any(name.startswith("bert.encoder.layer.") for name in found.state):
        raise WeightsError(f"text encoder {source}: is no BERT (its first tensors are {sorted(found.state)[:3]})")
    return found


def _chosen(
    state: dict[str, Tensor], layers: int, source_layer: Callable[[int], int], source: str
) -> dict[str, Tensor]:
    """``state`` with the layers that an encoder's ``layers`` start from, under the encoder's numbers."""
    parts = {name: _LAYER.fullmatch(name) for name in state}
    there = {int(part[2]) for part in parts.values() if part}
    if lacking := [source_layer(i) for i in range(layers) if source_layer(i) not in there]:
        raise WeightsError(
            f"text encoder {source}: has no layers {lacking}, only {len(there)} of them; load_bertL_by_sep takes "
            f"BERT-large's: give its weights, or leave load_bertL_by_sep out"
        )
    result = {name: t for name, t in state.items() if parts[name] is None}
    for i in range(layers):
        of_layer = ((name, part) for name, part in parts.items() if part and int(part[2]) == source_layer(i))
        result |= {f"{part[1]}{i}{part[3]}": state[name] for name, part in of_layer}
    return result


def _may_lack(name: str, layers: int) -> bool:
    """Whether no BERT has it: cross-attention, layers beyond ``layers``, and the second names of tied tensors."""
    layer = _LAYER.fullmatch(name)
    return (
        ".crossattention." in name
        or (layer is not None and int(layer[2]) >= layers)
        or name.startswith("cls.predictions.decoder.")
    )


def _of_today(name: str) -> str:
    head, _, last = name.rpartition(".")
    return f"{head}.{_OLD_NAMES[last]}" if last in _OLD_NAMES else name
