"""Load a baseline's checkpoints, official ones or ours, non-strictly but never silently.

Source: docs/official/meter.md §8, docs/official/vilt.md §8.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vlp.checkpoint.layout import CheckpointLayout, State
from vlp.checkpoint.recognition import KNOWN_EXTRAS, known_extras, refuse_other
from vlp.checkpoint.weights import WeightsError, check_tensors, read_state_dict, saved_config, sha256_of_file

log = logging.getLogger(__name__)

MOST_LISTED = 20  # names of tensors in a line of the log


def load_into(model: nn.Module, path: str | Path, layout: CheckpointLayout) -> list[str]:
    """Load ``path`` into ``model`` of a task, whose ``config`` is its resolved config.

    A retrieval model whose file has no ``rank_output`` gets row 1 ("matched") of ``itm_score``: so the zero-shot
    evaluation of a pre-training checkpoint ranks with its ITM head, not with a random one
    (docs/official/meter.md §7.1, docs/official/vilt.md §4.3).
    An NLVR2 model whose file knows one image per text starts the second image's token type as a copy of the first's.

    Returns:
        the heads that the file lacks and that were left as built.

    Raises:
        WeightsError: unreadable, unsafe, or of another architecture or size.
    """
    whole = read_state_dict(path)
    refuse_other(path, whole, layout)
    state = {name: t for name, t in whole.items() if not name.endswith(KNOWN_EXTRAS)}
    expected = model.state_dict()
    if not any(name in expected for name in state):
        raise WeightsError(f"{path}: none of its {len(state)} tensors is {layout.title}'s (first: {sorted(state)[:3]})")
    state = _with_derived_heads(path, layout.resized(path, state, expected), expected)
    hint = architecture_hint(path, model.config, layout)  # type: ignore[arg-type]
    check_tensors(path, state, expected, hint)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith(KNOWN_EXTRAS)]
    log.info("[load] %s, %d tensors, sha256 %s", path, len(state) - len(unexpected), sha256_of_file(path))
    for names, what in ((missing, "lacks"), (unexpected, "also has")):
        if of_trunk := [name for name in names if name.startswith(layout.trunk)]:
            raise WeightsError(
                f"{path} {what} {of_trunk[:3]} ({len(of_trunk)} tensors): another {layout.named_in_hints[-1]} or "
                f"encoder? {hint}"
            )
    if extras := known_extras(whole):
        log.info("[load] known extras of official files, ignored: %s", ", ".join(extras))
    if missing:
        log.warning("[load] not in the file, left as built: %s", _listed(missing))
    if unexpected:
        log.info("[load] in the file, not in this model: %s", _listed(unexpected))
    return missing


def _listed(names: Sequence[str]) -> str:
    """Names of tensors; of many, the parts of the model with their numbers: ``visual_encoder_m.blocks (144)``."""
    if len(names) <= MOST_LISTED:
        return ", ".join(names)
    counts = Counter(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{part} ({count})" for part, count in counts.items())


def _with_derived_heads(path: str | Path, state: dict[str, Tensor], expected: State) -> dict[str, Tensor]:
    if "rank_output.weight" in expected and "rank_output.weight" not in state:
        if "itm_score.fc.weight" not in state:
            raise WeightsError(f"{path}: has neither rank_output nor itm_score, so nothing can rank pairs")
        state["rank_output.weight"] = state["itm_score.fc.weight"][1:].clone()
        state["rank_output.bias"] = state["itm_score.fc.bias"][1:].clone()
    types = "token_type_embeddings.weight"
    if types in state and len(state[types]) == 2 and len(expected[types]) == 3:
        state[types] = state[types][[0, 1, 1]]
    return state


def architecture_hint(path: str | Path, config: Mapping[str, Any], layout: CheckpointLayout) -> str:
    """Which config keys to change so that a model fits the checkpoint, as far as the file says it."""
    own = saved_config(path)
    known = [key for key in layout.architecture if key in config]  # a script's config has what its model needs
    if other := [key for key in known if own.get(key, config[key]) != config[key]]:
        return f"The checkpoint has {', '.join(f'{key}={own[key]} (here {config[key]})' for key in other)}"
    return f"Check {', '.join(layout.named_in_hints[:-1])} and {layout.named_in_hints[-1]}"


def freeze_itm_head(model: nn.Module) -> None:
    """Retrieval: the matching head builds the ranking head and is not trained itself.

    Source: docs/official/meter.md §7.1, docs/official/vilt.md §4.3.
    """
    for parameter in model.itm_score.parameters():  # type: ignore[union-attr]
        parameter.requires_grad_(False)
