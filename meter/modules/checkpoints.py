"""Load METER checkpoints: official keys, position tables of another image size, heads made from others (SPEC §8)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vlp.checkpoint.baselines import KNOWN_EXTRAS, known_extras, refuse_other
from vlp.nn.positions import interpolate_clip_positions, interpolate_swin_bias, swin_image_size
from vlp.training.weights import (
    WeightsError,
    check_shapes,
    read_state_dict,
    saved_config,
    sha256_of_file,
)

log = logging.getLogger(__name__)

# The config keys that decide a METER's tensors; the image size does not, its tables are interpolated.
ARCHITECTURE = (
    "vit",
    "patch_size",
    "tokenizer",
    "vocab_size",
    "hidden_size",
    "num_heads",
    "num_top_layer",
    "mlp_ratio",
    "input_image_embed_size",
    "input_text_embed_size",
)
# What every METER has, whatever its task; the rest is heads and leftovers of CLIP's text side.
BODY = (
    *("vit_model.visual.", "vit_model.patch_embed.", "vit_model.layers.", "vit_model.norm."),
    *("text_transformer.", "cross_modal_", "token_type_embeddings."),
)


def resized_positions(
    path: str | Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """``state`` with CLIP position tables and Swin bias tables interpolated to the sizes of ``expected``.

    Raises:
        WeightsError: a table of ``path`` is no grid.
    """
    try:
        return {name: _resized(name, t, expected[name]) if name in expected else t for name, t in state.items()}
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error


def _resized(name: str, value: Tensor, expected: Tensor) -> Tensor:
    if value.shape == expected.shape:
        return value
    if name.endswith("visual.positional_embedding"):
        grid = round((expected.shape[0] - 1) ** 0.5)
        return interpolate_clip_positions(value, patch_size=1, image_size=grid)
    if name.endswith("relative_position_bias_table"):
        return interpolate_swin_bias(value, swin_image_size(value), swin_image_size(expected))
    return value


def load_checkpoint(model: nn.Module, path: str | Path) -> list[str]:
    """Load ``path`` (official or ours) into ``model``, non-strictly but never silently.

    A retrieval model whose file has no ``rank_output`` gets row 1 ("matched") of ``itm_score``: so the zero-shot
    evaluation of a pre-training checkpoint ranks with its ITM head, not with a random one (SPEC §7.1). An NLVR2 model
    whose file knows one image per text starts the second image's token type as a copy of the first's (SPEC §7.3).

    Returns:
        the heads that the file lacks and that were left as built.

    Raises:
        WeightsError: unreadable, unsafe, or of another architecture or size.
    """
    whole = read_state_dict(path)
    refuse_other(path, whole, "METER")
    state = {name: t for name, t in whole.items() if not name.endswith(KNOWN_EXTRAS)}
    expected = model.state_dict()
    if not any(name in expected for name in state):
        raise WeightsError(f"{path}: none of its {len(state)} tensors is METER's (first: {sorted(state)[:3]})")
    state = resized_positions(path, state, expected)
    if "rank_output.weight" in expected and "rank_output.weight" not in state:
        if "itm_score.fc.weight" not in state:
            raise WeightsError(f"{path}: has neither rank_output nor itm_score, so nothing can rank pairs")
        state["rank_output.weight"] = state["itm_score.fc.weight"][1:].clone()
        state["rank_output.bias"] = state["itm_score.fc.bias"][1:].clone()
    types = "token_type_embeddings.weight"
    if types in state and len(state[types]) == 2 and len(expected[types]) == 3:
        state[types] = state[types][[0, 1, 1]]
    hint = architecture_hint(path, model.config)  # type: ignore[arg-type]
    check_shapes(path, state, expected, hint)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith(KNOWN_EXTRAS)]
    log.info("[load] %s, %d tensors, sha256 %s", path, len(state) - len(unexpected), sha256_of_file(path))
    for names, what in ((missing, "lacks"), (unexpected, "also has")):
        if body := [name for name in names if name.startswith(BODY)]:
            raise WeightsError(
                f"{path} {what} {body[:3]} ({len(body)} tensors): another num_top_layer or encoder? {hint}"
            )
    if extras := known_extras(whole):
        log.info("[load] known extras of official files, ignored: %s", ", ".join(extras))
    if missing:
        log.warning("[load] not in the file, left as built: %s", ", ".join(missing))
    if unexpected:
        log.info("[load] in the file, not in this model: %s", ", ".join(unexpected))
    return missing


def architecture_hint(path: str | Path, config: Mapping[str, Any]) -> str:
    """Which config keys to change so that a model fits the checkpoint, as far as the file says it."""
    own = saved_config(path)
    if other := [key for key in ARCHITECTURE if own.get(key, config[key]) != config[key]]:
        return f"The checkpoint has {', '.join(f'{key}={own[key]} (here {config[key]})' for key in other)}"
    return "Check vit, image_size, tokenizer, hidden_size and num_top_layer"


def freeze_itm_head(model: nn.Module) -> None:
    """Retrieval: the ITM loss still trains the body, not its own head (SPEC §7.1)."""
    for parameter in model.itm_score.parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(False)
