"""Fig. 2b: how much of its accuracy a model loses where the tokens around the masked ones are corrupted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from epic_common.analysis.corrupted_context import corrupted_context
from epic_common.generator import LanguageModelGenerator
from reproduce.figures.accuracy import Sentences, masked_token_accuracy
from reproduce.figures.drawing import LABELS, Band, draw_bands, save
from reproduce.figures.masked_data import HeldOut, check_held_out, held_out_pairs
from reproduce.figures.masked_models import Models, language_model, loaded_models
from reproduce.figures.record import file_record, write_record
from reproduce.figures.repeats import Repeats, models_of_repeat, train_repeats
from vlp.data.collate import Batch

SHARES = tuple(number / 10 for number in range(11))


def figure_2b(repeats: Repeats, output: Path, checkpoint: Path | None = None, text_only: str = "") -> list[Path]:
    """Corrupt 0 to 100 % of the unmasked tokens, and draw the relative drop of masked-token accuracy.

    The models are those of Fig. 2a, trained here if they are not there yet; or, where ``text_only`` names a masked
    language model, that one and the ``checkpoint``, of which repeats differ by masks and corruptions.

    Returns:
        the files that were written: figure2b.pdf, .png and .json.

    Raises:
        ValueError, DataError, WeightsError, OSError: settings, data or weights do not serve.
    """
    if text_only and checkpoint is None:
        raise ValueError("--language-model is compared with a checkpoint: give --checkpoint, too")
    if text_only:
        check_held_out(repeats.baseline, repeats.held_out)
    else:
        train_repeats(repeats)
    rows = [_of_seed(repeats, seed, checkpoint, text_only) for seed in repeats.seeds]
    bands = {label: Band.of([row["drop"][name] for row in rows]) for name, label in LABELS.items()}
    percent = [100 * share for share in SHARES]
    figure = draw_bands(percent, bands, "unmasked tokens corrupted, %", "relative drop of accuracy, %")
    written = save(figure, output / "figure2b")
    numbers: dict[str, Any] = {name: bands[label].numbers() for name, label in LABELS.items()}
    record = write_record(
        output / "figure2b.json",
        *("2b", repeats.baseline.name),
        seeds=repeats.seeds,
        held_out={"file": repeats.held_out or "the val split", "pairs": repeats.pairs},
        measured={"checkpoint": file_record(checkpoint), "language_model": text_only}
        if text_only and checkpoint
        else {"weights_sha256": [row["weights_sha256"] for row in rows]},
        shares=list(SHARES),
        **numbers,
        repeats=rows,
    )
    return [*written, record]


def _of_seed(repeats: Repeats, seed: int, checkpoint: Path | None, text_only: str) -> dict[str, Any]:
    baseline, config = repeats.baseline, repeats.config_of(seed)
    tokenizer = baseline.datamodule(config).tokenizer
    if text_only and checkpoint is not None:
        models, weights = loaded_models(baseline, config, tokenizer, checkpoint, text_only), None
    else:
        models = models_of_repeat(repeats, seed, tokenizer)
        weights = file_record(repeats.weights_file(seed))["sha256"]
    held_out = held_out_pairs(baseline, config, repeats.held_out, repeats.pairs)
    generator = language_model(baseline, config, tokenizer, "fixed")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for module in (*models, generator):
        module.to(device)
    accuracy = accuracies(models, held_out, generator.eval(), SHARES, seed)
    return {"seed": seed, "weights_sha256": weights, "accuracy": accuracy, "drop": relative_drop(accuracy)}


def accuracies(
    models: Models, batches: HeldOut, generator: LanguageModelGenerator, shares: Sequence[float], seed: int
) -> dict[str, list[float]]:
    """Masked-token accuracy of both models where these shares of the unmasked tokens are corrupted, by model."""
    found: dict[str, list[float]] = {name: [] for name in models.predict()}
    for share in shares:
        rng = torch.Generator(next(generator.parameters()).device).manual_seed(seed)
        for name, accuracy in masked_token_accuracy(models, batches, _corrupted(generator, share, rng)).items():
            found[name].append(accuracy)
    return found


def _corrupted(generator: LanguageModelGenerator, share: float, rng: torch.Generator) -> Sentences:
    def read(batch: Batch, masked: Tensor) -> Tensor:
        return corrupted_context(generator, batch["text_ids"], batch["text_masks"], masked, share, rng)

    return read


def relative_drop(accuracy: dict[str, list[float]]) -> dict[str, list[float]]:
    """(accuracy at the first share - accuracy) / accuracy at the first share, by model.

    Raises:
        ValueError: a model finds no masked token at all.
    """
    for name, values in accuracy.items():
        if not values[0]:
            raise ValueError(f"{LABELS[name]}: no masked token is found, so that nothing can drop; train longer")
    return {name: [(values[0] - value) / values[0] for value in values] for name, values in accuracy.items()}
