"""Masked-token accuracy of both models of Fig. 2 on the same masked sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from epic_common.masking import mask_tokens, masked_places
from reproduce.figures.masked_data import HeldOut
from reproduce.figures.masked_learning import mixed_precision
from reproduce.figures.masked_models import Models
from vlp.data.collate import Batch
from vlp.data.masking import IGNORED

# (batch, M (B, n) bool) -> the sentences (B, n) that are read, M masked.
Sentences = Callable[[Batch, Tensor], Tensor]


def masked_sentences(mask_id: int) -> Sentences:
    """Every token in M is the mask token, none is kept or drawn: nothing of it is seen."""
    return lambda batch, masked: mask_tokens(batch["text_ids"], masked, mask_id)


@torch.no_grad()
def masked_token_accuracy(models: Models, batches: HeldOut, sentences: Sentences) -> dict[str, float]:
    """Share of masked tokens whose likeliest token is the original, by model.

    Both read the same ``sentences`` of each batch.

    Raises:
        ValueError: no token is masked in all the batches.
    """
    right, count = Counter[str](), 0
    device = next(models.with_image.parameters()).device
    modes = [(model, model.training) for model in models]
    for model in models:
        model.eval()
    for given in batches():
        batch = move_data_to_device(given, device)
        masked = batch["text_labels_mlm"] != IGNORED
        places, _ = masked_places(masked)
        read, targets = sentences(batch, masked), batch["text_ids"].flatten()[places]
        count += len(places)
        for name, predict in models.predict().items():
            with mixed_precision(device):
                logits = predict(batch, read, places)
            right[name] += int((logits.argmax(dim=-1) == targets).sum())
    for model, training in modes:
        model.train(training)
    if not count:
        raise ValueError("no token of the held-out pairs is masked: hold out more pairs, or mask more tokens")
    return {name: right[name] / count for name in models.predict()}
