"""The repeats of Fig. 2: both models trained anew with each seed, kept in a folder, gone on with by the next call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device

from epic_common.language_models.progress import steps_with_time_left
from reproduce.figures.accuracy import masked_sentences, masked_token_accuracy
from reproduce.figures.masked_data import check_held_out, held_out_pairs, mlm_config, training_batches
from reproduce.figures.masked_learning import learners_of
from reproduce.figures.masked_models import Models, new_models
from vlp.baseline import Config
from vlp.checkpoint.weights import read_checkpoint, sha256_of_file
from vlp.files import atomic_open, read_json, write_json

_POINTS = 20  # of a curve, beside its start


@dataclass(frozen=True)
class Repeats:
    """What is repeated.

    Attributes:
        config: the run's; its seed is that of the first repeat.
        folder: of all repeats; each has its own, by its seed.
        steps: optimiser steps of each model.
        held_out, pairs: see :func:`held_out_pairs`.
    """

    baseline: Any
    config: Config
    folder: Path
    count: int
    steps: int
    held_out: str
    pairs: int

    @property
    def seeds(self) -> list[int]:
        """One a repeat: of weights, order, views and masks."""
        return [self.config["seed"] + number for number in range(self.count)]

    def config_of(self, seed: int) -> Config:
        """The configuration of a repeat."""
        return mlm_config(self.baseline, self.config, seed, self.steps)

    def curve_file(self, seed: int) -> Path:
        """What a complete repeat has measured."""
        return self.folder / f"seed{seed}" / "curve.json"

    def weights_file(self, seed: int) -> Path:
        """The models of a complete repeat."""
        return self.folder / f"seed{seed}" / "models.ckpt"

    def claim(self) -> None:
        """Check the settings, and note them in the folder.

        Raises:
            ValueError: the folder holds repeats of others; or the held-out pairs are not named as they must be.
        """
        check_held_out(self.baseline, self.held_out)
        path = self.folder / "settings.json"
        wanted = json.loads(json.dumps(self._settings()))
        if path.exists():
            there = read_json(path)
            keys = sorted(key for key in {**there, **wanted} if there.get(key) != wanted.get(key))
            if keys:
                raise ValueError(
                    f"{self.folder} holds repeats of other settings ({', '.join(keys)}): remove it, or give another "
                    "--output"
                )
        write_json(path, wanted)

    def _settings(self) -> dict[str, Any]:
        own = {"baseline": self.baseline.name, "steps": self.steps, "held_out": self.held_out, "pairs": self.pairs}
        return {**own, **{f"config {key}": value for key, value in self.config_of(self.seeds[0]).items()}}


def train_repeats(repeats: Repeats) -> list[dict[str, Any]]:
    """The curve of every repeat, those that the folder lacks trained first.

    Raises:
        ValueError, DataError, WeightsError, OSError: settings, data or weights do not serve.
    """
    repeats.claim()
    for number, seed in enumerate(repeats.seeds, start=1):
        if not repeats.curve_file(seed).exists():
            train_repeat(repeats, seed, f"repeat {number} of {repeats.count}")
    return [read_json(repeats.curve_file(seed)) for seed in repeats.seeds]


def train_repeat(repeats: Repeats, seed: int, title: str) -> None:
    """Train both models on the same batches; write their weights, then what was measured on the way."""
    baseline, config = repeats.baseline, repeats.config_of(seed)
    L.seed_everything(seed, verbose=False)
    datamodule = baseline.datamodule(config)
    tokenizer = datamodule.tokenizer
    held_out = held_out_pairs(baseline, config, repeats.held_out, repeats.pairs)
    models, own = new_models(baseline, config, tokenizer)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for model in models:
        model.to(device).train()
    learners = learners_of(models, own, config, repeats.steps)
    read = masked_sentences(models.text_only.vocabulary.mask_id)
    curve: dict[str, list[float]] = {"steps": [], **{name: [] for name in learners}}

    def measure(step: int) -> None:
        curve["steps"].append(step)
        for name, accuracy in masked_token_accuracy(models, held_out, read).items():
            curve[name].append(accuracy)

    with steps_with_time_left(title, repeats.steps) as progress:
        for step, batch in zip(range(repeats.steps), training_batches(datamodule), strict=False):
            if step % max(1, repeats.steps // _POINTS) == 0:
                measure(step)
            batch = move_data_to_device(batch, device)
            losses = [learner.step(batch) for learner in learners.values()]
            progress.advance(loss=losses[0])
    measure(repeats.steps)
    datamodule.teardown("fit")
    save_models(models, repeats.weights_file(seed))
    weights = sha256_of_file(repeats.weights_file(seed))
    write_json(repeats.curve_file(seed), {"seed": seed, "weights_sha256": weights, **curve})


def save_models(models: Models, path: Path) -> None:
    """Write the weights of both, by name."""
    with atomic_open(path) as handle:
        torch.save({name: model.state_dict() for name, model in models._asdict().items()}, handle)


def models_of_repeat(repeats: Repeats, seed: int, tokenizer: Any) -> Models:
    """The trained models of a repeat, on the CPU.

    Raises:
        WeightsError: its file is damaged.
    """
    models, _ = new_models(repeats.baseline, repeats.config_of(seed), tokenizer)
    saved: Mapping[str, Any] = read_checkpoint(repeats.weights_file(seed))
    for name, model in models._asdict().items():
        model.load_state_dict(saved[name])
        model.eval()
    return models
