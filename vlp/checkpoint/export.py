"""Write a checkpoint as a folder in the style of a model hub: weights, configuration, tokenizer, model card.

``load_path``, ``--checkpoint`` and ``teacher_path`` take the folder as they take the checkpoint, tensor for tensor.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlp.baseline import REGISTRY, get_baseline
from vlp.checkpoint.convert import read_whole, write_safetensors
from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.folder import SUMS
from vlp.checkpoint.forms import WEIGHTS, existing_file
from vlp.checkpoint.model_card import model_card
from vlp.checkpoint.recognition import EPIC_PREFIX, looks_like
from vlp.checkpoint.run_results import results_of
from vlp.checkpoint.weights import ADDED_FILE, config_of, sha256_of_file, tensors_of
from vlp.data.tokenizers import load_tokenizer
from vlp.files import atomic_open, write_json

CONFIG = "config.json"
CARD = "README.md"
_TOKENIZER_KEYS = ("tokenizer", "text_encoder")  # METER and ViLT, ALBEF and X-VLM


class Exported(NamedTuple):
    """What an export wrote: the baseline, tensors of the model, of EPIC beside it, and the results in its card."""

    baseline: str
    tensors: int
    added: int
    results: list[Path]


def export(
    source: str | Path,
    folder: str | Path,
    *,
    tokenizer: str | None = None,
    results: Sequence[str | Path] = (),
    overwrite: bool = False,
) -> Exported:
    """Write ``folder``, all of it or nothing: another folder beside it takes the name once it is complete.

    Args:
        source: the checkpoint of a run, official or ours.
        tokenizer: a folder or hub name; by default the one of the run's configuration.
        results: further ``results.json`` of this checkpoint, beside those that stand in its run's folders.
        overwrite: replace ``folder`` if an earlier export wrote it.

    Raises:
        WeightsError: unreadable, of no baseline, without weights or configuration; results of another checkpoint; or a
            ``folder`` that is there.
        OSError: the tokenizer cannot be had, or ``folder`` cannot be written.
    """
    source, folder = existing_file(source), Path(folder)
    check_target(folder, overwrite)
    content, _ = read_whole(source, trust=False)
    state = model_tensors(source, content)
    baseline = baseline_of(source, state)
    if (config := config_of(content)) is None:
        raise WeightsError(
            f"{source}: holds no configuration, which {CONFIG}, the tokenizer and the model card are made from; give "
            "the checkpoint of a run"
        )
    words = load_tokenizer(tokenizer or tokenizer_name(source, config))
    found = results_of(source, results)
    added = {name: tensor for name, tensor in state.items() if name.startswith(EPIC_PREFIX)}
    content["source"] = {"file": source.name, "sha256": sha256_of_file(source)}
    described = {key: content.get(key) for key in ("epoch", "global_step", "versions", "source")}
    partial = folder.parent / f".{folder.name}.tmp"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        own = {name: tensor for name, tensor in state.items() if name not in added}
        write_safetensors(partial / WEIGHTS, own, content)
        if added:
            write_safetensors(partial / ADDED_FILE, added, content)
        write_json(partial / CONFIG, {"library": "epic-vlp", "baseline": baseline.name, **described, "config": config})
        words.save_pretrained(partial)
        _write_sums(partial)
        with atomic_open(partial / CARD) as handle:
            handle.write(model_card(baseline, folder.name, state, {**described, "config": config}, found).encode())
        _take_the_name(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(baseline.title, len(own), len(added), [each.path for each in found])


def check_target(folder: Path, overwrite: bool) -> None:
    """Refuse a place that holds something; an export may be replaced where ``overwrite`` says so.

    Raises:
        WeightsError: a file, or a folder that is not empty.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or folder.is_symlink():
        raise WeightsError(f"{folder}: is no folder; give the name of a new one")
    if not any(folder.iterdir()):
        return
    if not overwrite:
        raise WeightsError(f"{folder}: is there already and is kept; give another name, or --overwrite")
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        raise WeightsError(f"{folder}: is no export, and --overwrite would remove what it holds; give another name")


def model_tensors(source: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a checkpoint dictionary.

    Raises:
        WeightsError: there are none, as in X-VLM's ``training_state_latest.th``.
    """
    if "optimizer" in content and not any(isinstance(content.get(key), dict) for key in ("model", "state_dict")):
        raise WeightsError(
            f"{source}: holds the state of a training (its optimiser), not the weights of a model; give the checkpoint "
            "beside it"
        )
    return tensors_of(source, content)


def baseline_of(source: Path, names: Iterable[str]) -> Any:
    """The description of the baseline whose tensors these are.

    Raises:
        WeightsError: they are of none.
    """
    title = looks_like(names)
    for name in REGISTRY:
        if (baseline := get_baseline(name)).title == title:
            return baseline
    known = ", ".join(get_baseline(name).title for name in REGISTRY)
    raise WeightsError(
        f"{source}: its keys are those of {title or 'no known model'}; export takes a checkpoint of {known}"
    )


def tokenizer_name(source: Path, config: Mapping[str, Any]) -> str:
    """Of the run's configuration.

    Raises:
        WeightsError: it names none.
    """
    for key in _TOKENIZER_KEYS:
        if isinstance(name := config.get(key), str):
            return name
    raise WeightsError(f"{source}: its configuration names no tokenizer; give one: --tokenizer FOLDER")


def _write_sums(folder: Path) -> None:
    """What ``sha256sum -c`` and whoever loads the folder compare; the card, which people edit, is not among them."""
    lines = [f"{sha256_of_file(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    with atomic_open(folder / SUMS) as handle:
        handle.write("".join(lines).encode())


def _take_the_name(partial: Path, folder: Path) -> None:
    """Rename; an export that stood there is moved aside first and removed afterwards."""
    old = folder.parent / f".{folder.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(partial, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
