"""The model card of an exported checkpoint, from what its run noted: data, steps, results and their protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from vlp.baseline import Baseline
from vlp.checkpoint.recognition import EPIC_PREFIX
from vlp.checkpoint.run_results import Results

# Of the configuration, what readers of a card look for; a baseline has some of them.
_DATA = (
    "datasets",
    "train_file",
    "train_file_regions",
    "train_dataset_size",
    "image_res",
    "image_size",
    "max_text_len",
)
_TRAINING = (
    *("max_steps", "max_epoch", "schedular", "batch_size", "batch_size_train", "images", "regions", "learning_rate"),
    *("optimizer", "warmup_steps", "weight_decay", "precision", "num_gpus", "num_nodes", "world_size", "seed"),
)
_ARCHITECTURE = ("vit", "tokenizer", "text_encoder", "hidden_size", "num_top_layer", "embed_dim", "queue_size")
# Of a results.json, what says how it was measured.
_PROTOCOL = ("task", "protocol", "zero_shot_protocol", "datasets", "eval_split", "splits", "items")
_HEAD = """---
library_name: epic-vlp
tags:
- vision-language
- {baseline}
{tags}---

# {name}
"""
_USE = """
## Use

`python -m vlp.checkpoint inspect FOLDER` says what the weights are. METER and ViLT load the folder by
`load_path=FOLDER`, ALBEF and X-VLM by `--checkpoint FOLDER`, each as a teacher of EPIC by `teacher_path=FOLDER`; the
tokenizer is in it, too.
"""


def model_card(
    baseline: Baseline,
    name: str,
    state: Mapping[str, Tensor],
    described: Mapping[str, Any],
    results: Sequence[Results],
) -> str:
    """The text of README.md.

    Args:
        name: of the folder.
        state: the tensors, those of EPIC included.
        described: the configuration under ``config``, and epoch, global_step, versions and source as far as known.
        results: of this very checkpoint.
    """
    config = described["config"]
    epic = _epic_settings(config, state)
    head = _HEAD.format(baseline=baseline.name, name=name, tags="- epic\n" if epic else "")
    lines = [
        *_what(baseline, state, bool(epic)),
        *_table("Data", {key: config[key] for key in _DATA if config.get(key)}),
        *_table("Training", {**_length(described), **{key: config[key] for key in _TRAINING if key in config}}),
        *(_table("EPIC", epic) if epic else ()),
        *_table("Model", {key: config[key] for key in _ARCHITECTURE if config.get(key) is not None}),
        *_results(results),
        *_table("Origin", {**(described.get("source") or {}), **(described.get("versions") or {})}),
    ]
    return head + "\n".join(lines) + "\n" + _USE


def _what(baseline: Baseline, state: Mapping[str, Tensor], epic: bool) -> Iterator[str]:
    own = [tensor for key, tensor in state.items() if not key.startswith(EPIC_PREFIX)]
    numbers = sum(tensor.numel() for tensor in own if tensor.is_floating_point())
    how = "with EPIC (per image-token consistency, CVPR 2023)" if epic else "without EPIC"
    yield f"\nWeights of {baseline.title}, trained {how}: {len(own):,} tensors, {numbers:,} values, official names."
    if len(own) < len(state):
        yield "EPIC's own head and generator are in `epic.safetensors`; nothing but further pre-training needs them."


def _epic_settings(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The block ``epic`` of a run that had it on."""
    settings = config.get("epic")
    on = isinstance(settings, Mapping) and settings.get("enabled")
    if not on and not any(name.startswith(EPIC_PREFIX) for name in state):
        return {}
    return {**(settings if isinstance(settings, Mapping) else {"enabled": True})}


def _length(described: Mapping[str, Any]) -> dict[str, Any]:
    """How long the checkpoint was trained; its epoch counts from 0."""
    names = {"global_step": "optimiser steps done", "epoch": "epoch (from 0)"}
    return {title: described[key] for key, title in names.items() if described.get(key) is not None}


def _results(results: Sequence[Results]) -> Iterator[str]:
    if not results:
        yield "\n## Results\n\nNo evaluation of this checkpoint was found beside it when the card was written."
    for each in results:
        content = each.content
        how = {key: content[key] for key in _PROTOCOL if content.get(key)}
        task = content.get("task") or "evaluation"
        yield from _table(f"Results: {task}", content["metrics"])
        yield "\nHow it was measured:"
        yield from (f"- {key}: {_shown(value)}" for key, value in how.items())


def _table(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield from ("| | |", "| --- | --- |")
    yield from (f"| {key} | {_shown(value)} |" for key, value in values.items())


def _shown(value: Any) -> str:
    """A value in a cell of a table."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return str(value).replace("|", "\\|").replace("\n", " ")
