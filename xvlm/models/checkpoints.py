"""X-VLM's checkpoints: what each script makes of a file's tensors before it loads them.

One function per script brings a file, official or ours, to the names of the script's model; what a file already has
under those names stays, so that a fine-tuned file can be fine-tuned on or evaluated. Tables that depend on the image
size are interpolated. Officially ``--evaluate`` does neither, so that a pre-trained file is scored with a random text
encoder.

Source: docs/official/xvlm.md §7, §8.3.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from vlp.checkpoint.fusion_surgery import PRETRAINED, as_it_is, with_decoder, with_doubled_layers, without_bert
from vlp.checkpoint.layout import CheckpointLayout, State
from vlp.checkpoint.loading import load_into
from vlp.checkpoint.weights import WeightsError
from vlp.nn.positions import interpolate_pos_embed
from vlp.nn.relative_bias import interpolate_bias_table

log = logging.getLogger(__name__)

_DECODER_LAYERS = "text_decoder.bert.encoder.layer."
# Of the answer decoder: it attends to the question's states, which are not as wide as an image's.
_IMAGE_PROJECTIONS = ("crossattention.self.key.", "crossattention.self.value.")


def interpolated(state: State, expected: State) -> dict[str, Tensor]:
    """``state`` with the image encoder's tables brought to the model's image size.

    Raises:
        ValueError: a table is no grid, or too small.
    """
    result = dict(state)
    for name in state.keys() & expected.keys():
        if name.endswith("relative_position_bias_table"):
            result[name] = interpolate_bias_table(state[name], len(expected[name]))
        elif name.endswith("pos_embed"):  # of a ViT
            result[name] = interpolate_pos_embed(state[name], expected[name].shape[1])
    return result


def with_answer_decoder(state: State, expected: State) -> dict[str, Tensor]:
    """VQA: the fusion layers also become the answer decoder, whose keys and values of the question stay as built.

    A file that has an answer decoder is taken as it is.
    """
    made = with_decoder(state, expected)
    return {
        name: tensor
        for name, tensor in made.items()
        if name in state or not (name.startswith(_DECODER_LAYERS) and any(part in name for part in _IMAGE_PROJECTIONS))
    }


def as_decoder(state: State, expected: State) -> dict[str, Tensor]:
    """Captioning: the whole text encoder with its vocabulary head is the decoder.

    A file that has a decoder is taken as it is.
    """
    if _has(state, "text_decoder."):
        return dict(state)
    return {name.replace("text_encoder.", "text_decoder.", 1): tensor for name, tensor in state.items()}


# Script -> what it makes of a file. Retrieval's serves weakly supervised grounding.
SURGERY: dict[str, Callable[[State, State], dict[str, Tensor]]] = {
    "pretrain": as_it_is,
    "retrieval": without_bert,
    "vqa": with_answer_decoder,
    "nlvr_pretrain": with_doubled_layers,
    "nlvr": with_doubled_layers,
    "bbox": without_bert,
    "bbox_pretrain": without_bert,
    "captioning": as_decoder,
    "captioning_pretrain": as_decoder,
}
_FEATURES = ("vision_proj.", "text_proj.")
_ENCODERS = ("vision_encoder.", "text_encoder.embeddings.", "text_encoder.encoder.")
_DECODER = ("text_decoder.bert.embeddings.", "text_decoder.cls.")
# What a file must have. The rest may be left as built.
_TRUNKS = dict.fromkeys(SURGERY, _ENCODERS) | {
    "pretrain": ("temp", "vision_encoder.", "text_encoder.", *_FEATURES, "itm_head."),
    "vqa": (*_ENCODERS, *_DECODER),
    **dict.fromkeys(("captioning", "captioning_pretrain"), ("vision_encoder.", *_DECODER, _DECODER_LAYERS)),
}
# What a script's --evaluate reads besides. Pre-training has those of retrieval and grounding.
_SCORED = {
    "retrieval": (*_FEATURES, "itm_head."),
    "vqa": ("text_decoder.",),
    "nlvr": ("cls_head.",),
    "bbox": ("bbox_head.",),
    "captioning": ("text_decoder.",),
}


def _prepared(
    path: str | Path, state: State, expected: State, task: str = "pretrain", evaluate: bool = False
) -> dict[str, Tensor]:
    """``state`` of the file ``path`` as the model of ``task`` takes it.

    Raises:
        WeightsError: a file of another stage, or a table that cannot be interpolated.
    """
    if evaluate:
        for part in _SCORED.get(task, ()):
            if not _has(state, part):
                raise WeightsError(
                    f"{path}: has no {part.rstrip('.')}: --evaluate scores a fine-tuned checkpoint of this task; to "
                    f"fine-tune this one, leave out --evaluate"
                )
        if _has(state, PRETRAINED[0]):
            log.info("[load] zero-shot: %s is a checkpoint of pre-training, not fine-tuned for this task", path)
    prepared = SURGERY[task](state, expected)
    if (layers := _decoder_layers(prepared)) < (wanted := _decoder_layers(expected)):
        raise WeightsError(
            f"{path}: gives a decoder of {layers} layers, not of {wanted}; set num_dec_layers to {layers} or less"
        )
    try:
        return interpolated(prepared, expected)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


def _has(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _decoder_layers(names: Iterable[str]) -> int:
    return len({name[len(_DECODER_LAYERS) :].split(".")[0] for name in names if name.startswith(_DECODER_LAYERS)})


LAYOUT = CheckpointLayout(
    title="X-VLM",
    recognised_by=("vision_encoder.",),
    architecture=("embed_dim", "num_dec_layers", "use_swin", "use_clip_vit"),
    named_in_hints=("vision_config", "use_swin", "embed_dim", "text_config"),
    trunk=_TRUNKS["pretrain"],
    resized=_prepared,
)


def layout_of(task: str, evaluate: bool = False) -> CheckpointLayout:
    """The layout by which the script of ``task``, a key of ``SURGERY``, loads a file."""
    trunk = (*_TRUNKS[task], *_SCORED.get(task, ())) if evaluate else _TRUNKS[task]
    return replace(LAYOUT, trunk=trunk, resized=partial(_prepared, task=task, evaluate=evaluate))


def load_checkpoint(model: nn.Module, path: str | Path, task: str, evaluate: bool = False) -> list[str]:
    """Load ``path`` into the model of ``task``, a key of ``SURGERY``, as its script does.

    ``evaluate`` takes a checkpoint of pre-training, too, for retrieval and grounding: their zero-shot evaluation.

    Returns:
        what the file lacks and was left as built.

    Raises:
        WeightsError: unreadable, unsafe, of another model, size or stage.
    """
    return load_into(model, path, layout_of(task, evaluate))
