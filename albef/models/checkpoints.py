"""ALBEF's checkpoints: what each script makes of a file's tensors before it loads them.

One function per script brings a file, official or ours, to the names of the script's model; what a file already has
under those names stays, so that a fine-tuned file can be fine-tuned on or evaluated.

Source: docs/official/albef.md §4, §8.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from vlp.checkpoint.fusion_surgery import PRETRAINED, as_it_is, with_decoder, with_doubled_layers, without_bert
from vlp.checkpoint.layout import CheckpointLayout, State
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.weights import WeightsError
from vlp.nn.positions import interpolate_pos_embed

log = logging.getLogger(__name__)


def interpolated(state: State, expected: State) -> dict[str, Tensor]:
    """``state`` with the position tables of both image encoders brought to the model's image size.

    Raises:
        ValueError: a table is no square grid.
    """
    tables = [name for name in state if name.endswith("pos_embed") and name in expected]
    return {**state, **{name: interpolate_pos_embed(state[name], expected[name].shape[1]) for name in tables}}


# Script -> what it makes of a file. Retrieval's serves grounding.
SURGERY: dict[str, Callable[[State, State], dict[str, Tensor]]] = {
    "pretrain": as_it_is,
    "retrieval": without_bert,
    "vqa": with_decoder,
    "ve": without_bert,
    "nlvr_pretrain": with_doubled_layers,
    "nlvr": as_it_is,
}
_ENCODERS = ("visual_encoder.", "text_encoder.embeddings.", "text_encoder.encoder.")
# What a file must have, or, where the scripts load strictly, the whole model. The rest may be left as built.
_TRUNKS = dict.fromkeys(SURGERY, _ENCODERS) | {
    "pretrain": (
        *("temp", "image_queue", "text_queue", "queue_ptr", "itm_head."),
        *(f"{part}{copy}." for copy in ("", "_m") for part in ("visual_encoder", "text_encoder")),
        *(f"{part}{copy}." for copy in ("", "_m") for part in ("vision_proj", "text_proj")),
    ),
    "vqa": (*_ENCODERS, "text_decoder."),
}
# What a script's --evaluate reads besides, and a fine-tuned file alone has; zero-shot retrieval has none.
_TUNED = {"vqa": "text_decoder.", "ve": "cls_head.", "nlvr": "cls_head."}


def _prepared(
    path: str | Path, state: State, expected: State, task: str = "pretrain", evaluate: bool = False
) -> dict[str, Tensor]:
    """``state`` of the file ``path`` as the model of ``task`` takes it.

    Raises:
        WeightsError: a file of another stage, or a position table that is no grid.
    """
    tuned = _TUNED.get(task)
    if evaluate and tuned and not any(name.startswith(tuned) for name in state):
        raise WeightsError(
            f"{path}: has no {tuned.rstrip('.')}: --evaluate scores a fine-tuned checkpoint of this task; to fine-tune "
            f"this one, leave out --evaluate"
        )
    if task == "nlvr" and any(name.startswith(PRETRAINED) for name in state):
        raise WeightsError(
            f"{path}: is a checkpoint of pre-training; NLVR2 starts from one of its text assignment: run "
            f"Pretrain_nlvr.py with it first and give what that leaves"
        )
    try:
        return interpolated(SURGERY[task](state, expected), expected)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


LAYOUT = CheckpointLayout(
    title="ALBEF",
    recognised_by=("visual_encoder.", "text_encoder."),
    architecture=("vision_width", "embed_dim", "queue_size"),
    named_in_hints=("vision_config", "queue_size", "embed_dim", "bert_config"),
    trunk=_TRUNKS["pretrain"],
    resized=_prepared,
)


def layout_of(task: str, evaluate: bool = False) -> CheckpointLayout:
    """The layout by which the script of ``task``, a key of ``SURGERY``, loads a file."""
    trunk = (*_TRUNKS[task], _TUNED[task]) if evaluate and task in _TUNED else _TRUNKS[task]
    return replace(LAYOUT, trunk=trunk, resized=partial(_prepared, task=task, evaluate=evaluate))


def load_checkpoint(model: nn.Module, path: str | Path, task: str, evaluate: bool = False) -> list[str]:
    """Load ``path`` into the model of ``task``, a key of ``SURGERY``, as its script does.

    A file without momentum networks starts them as copies of what was loaded. Fine-tuning for NLVR2 does so where
    ``momentum_after_loading`` says it; officially, and by default, its teacher keeps the weights from before loading.

    Returns:
        what the file lacks and was left as built.

    Raises:
        WeightsError: unreadable, unsafe, of another model, size or stage.
    """
    missing = load_into(model, path, layout_of(task, evaluate))
    if any(name.startswith("visual_encoder_m.") for name in missing):
        if task == "nlvr" and not model.config["momentum_after_loading"]:  # type: ignore[index]
            log.warning("[load] the momentum models stay as built, as officially; momentum_after_loading=True: copies")
        else:
            model.copy_params()  # type: ignore[operator]
            log.info("[load] the momentum models start as copies of the loaded ones")
    return missing
