"""What a checkpoint file holds, told without running anything in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.foreign import plain, read_foreign
from vlp.checkpoint.forms import command_message, existing_file, is_safetensors, is_torchscript
from vlp.checkpoint.integrity import whole_file
from vlp.checkpoint.recognition import EPIC_PREFIX, known_extras, looks_like
from vlp.checkpoint.weights import (
    config_of,
    pickled_names,
    read_metadata,
    read_state_dict,
    sha256_of_file,
    state_key,
    tensors_of,
)
from vlp.nn.positions import swin_image_size

# Config keys that the short report shows; --json has them all.
_SHOWN = (
    *("vit", "image_size", "tokenizer", "hidden_size", "num_top_layer", "datasets", "batch_size"),
    *("image_res", "embed_dim", "queue_size", "text_encoder", "batch_size_train"),
)


def inspect(path: str | Path) -> dict[str, Any]:
    """A JSON-ready description; ``error`` says what could not be told, ``pickled`` what loading is refused for.

    Raises:
        WeightsError: no such file, or an empty one.
    """
    path = existing_file(path)
    found: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    found |= {"kind": "unknown", "pickled": [], "error": None}
    try:
        found["pickled"] = pickled_names(whole_file(path))
        kind, content, pickled = _read(path)
        state = tensors_of(path, content)
    except WeightsError as error:
        return {**found, "error": command_message(path, found["pickled"]) or str(error)}
    return {
        **found,
        "error": command_message(path, pickled),
        "kind": kind,
        "pickled": pickled,
        "baseline": looks_like(state),
        **{key: content.get(key) for key in ("epoch", "global_step", "pytorch-lightning_version")},
        "tensors": _sizes(state),
        "epic": _sizes({name: t for name, t in state.items() if name.startswith(EPIC_PREFIX)}),
        "extras": known_extras(state),
        "shapes": shapes(state),
        "optimizer_states": len(content.get("optimizer_states") or ()) or int("optimizer" in content),
        "config": config_of(content),
        **{key: content.get(key) for key in ("versions", "source")},
    }


def _read(path: Path) -> tuple[str, dict[str, Any], list[str]]:
    """Kind of file, checkpoint dictionary, foreign classes."""
    if is_safetensors(path):
        return "safetensors", {**read_metadata(path), "state_dict": read_state_dict(path)}, []
    if is_torchscript(path):
        return "TorchScript archive", {"state_dict": read_state_dict(path)}, []
    content, pickled = read_foreign(path, mmap=True)
    content = plain(content) if pickled else content
    return _kind(content), content, pickled


def _kind(content: Mapping[str, Any]) -> str:
    if "pytorch-lightning_version" in content:
        return "Lightning checkpoint of this project" if "versions" in content else "Lightning checkpoint"
    key = state_key(content)
    return "state dict" if key is None else f"checkpoint, tensors under {key!r}"


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    dtypes = Counter(str(t.dtype).removeprefix("torch.") for t in state.values())
    numbers = sum(t.numel() for t in state.values() if t.is_floating_point())
    return {"count": len(state), "parameters": numbers, "dtypes": dict(dtypes)}


def text(found: Mapping[str, Any]) -> str:
    """The description as aligned lines."""
    lines = [f"{found['file']}: {found['bytes'] / 1e6:.1f} MB, sha256 {found['sha256']}"]
    lines += [f"  {label:<11}{value}" for label, value in _lines(found) if value]
    return "\n".join(lines)


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Labels and what follows them; an empty text is left out."""
    yield "kind", found["kind"]
    if "tensors" in found:
        yield "keys of", found["baseline"] or "no known model"
        yield "saved at", _assignments(found, ("epoch", "global_step", "pytorch-lightning_version"))
        yield "tensors", _described(found["tensors"])
        yield "of EPIC", _described(found["epic"]) if found["epic"]["count"] else "none"
        yield "shapes", _assignments(found["shapes"])
        yield "optimiser", f"{found['optimizer_states']} state(s)" if found["optimizer_states"] else "no state"
        config = found["config"]
        yield "config", f"{len(config)} keys: {_assignments(config, _SHOWN)}" if config else "none"
        yield "versions", _assignments(found["versions"] or {})
        yield "source", _assignments(found["source"] or {})
        yield "extras", ", ".join(found["extras"]) + " (known, not loaded)" if found["extras"] else ""
    yield "pickled", ", ".join(found["pickled"]) + " (not run; weights are not loaded)" if found["pickled"] else ""
    yield "error", found["error"] or ""


def _described(sizes: Mapping[str, Any]) -> str:
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in sizes["dtypes"].items())
    return f"{sizes['count']} ({dtypes}), {sizes['parameters']:,} float values"


def _assignments(values: Mapping[str, Any], keys: Iterable[str] = ()) -> str:
    return ", ".join(f"{key}={values[key]}" for key in keys or values if values.get(key) is not None)


def shapes(state: Mapping[str, Tensor]) -> dict[str, int]:
    """What the tensors' shapes say of the model: patch, image_size, vocab_size, text_positions, fusion_layers."""
    found: dict[str, int] = {}
    patch = _first(state, r"(visual\.conv1|patch_embed\.proj)\.weight$")
    grid = _first(state, r"visual\.positional_embedding$|pos_embed$")
    window = _first(state, r"relative_position_bias_table$")
    if patch is not None:
        found["patch"] = patch.shape[-1]
    if patch is not None and grid is not None:
        found["image_size"] = found["patch"] * round((grid.shape[-2] - 1) ** 0.5)
    if window is not None:
        found["image_size"] = swin_image_size(window)
    words = _first(state, r"word_embeddings\.weight$")
    positions = _first(state, r"position_embeddings\.weight$")
    if words is not None:
        found["vocab_size"] = words.shape[0]
    if positions is not None:
        found["text_positions"] = positions.shape[0]
    fusion = r"(?:cross_modal_text_layers\.(\d+)\.|text_encoder\..*layer\.(\d+)\.crossattention\.)"
    layers = {match.groups() for name in state if (match := re.match(fusion, name))}
    if layers:
        found["fusion_layers"] = len(layers)
    return found


def _first(state: Mapping[str, Tensor], pattern: str) -> Tensor | None:
    names = (name for name in state if re.search(pattern, name) and not name.startswith(EPIC_PREFIX))
    return next((state[name] for name in names), None)
