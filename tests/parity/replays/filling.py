"""A fixture's texts, and its model: filled by golden.py's rule, or loaded as the launchers load.

Source: docs/official/meter.md §11.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tests.parity.replays import Fixture, Given

Model = TypeVar("Model", bound=nn.Module)


def filled(
    fixture: Fixture,
    model_of: Callable[[dict[str, Any], dict[str, Any]], Model],
    load_checkpoint: Callable[[nn.Module, Path], Any],
) -> Model:
    """The model of the fixture's ``arch`` and ``config``, filled by the rule or from its ``checkpoint``."""
    model = model_of(fixture.arch, fixture.config)
    checkpoint = fixture.checkpoint
    if not checkpoint:
        model.load_state_dict(fixture.fill(model.state_dict()))
        return model
    source = model_of(checkpoint["arch"], checkpoint["config"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.ckpt"
        torch.save({"state_dict": fixture.fill(source.state_dict(), checkpoint=True)}, path)
        load_checkpoint(model, path)
    if checkpoint["then_fill"]:
        model.load_state_dict(fixture.fill(model.state_dict(), prefixes=checkpoint["then_fill"]))
    return model


def built_outputs(fixture: Fixture, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters that the fixture stores as built."""
    state = model.state_dict()
    for name in fixture.arrays:
        if name.startswith("built."):
            yield name, state[name.removeprefix("built.")]


def false_texts(fixture: Fixture) -> list[str]:
    """What a batch calls the false texts that the fixture's configuration draws."""
    count: int = fixture.config["draw_false_text"]
    return [f"false_text_{i}_{kind}" for i in range(count) for kind in ("ids", "masks")]


def candidates(fixture: Fixture, batch: Given) -> list[Given]:
    """The batch with its own text, then with each of its false ones."""
    ids, masks = (["text_" + kind, *false_texts(fixture)[i::2]] for i, kind in enumerate(("ids", "masks")))
    return [batch.also(text_ids=batch[i], text_masks=batch[m]) for i, m in zip(ids, masks, strict=True)]


def texts(given: Given, *needed: str) -> Given:
    """The texts among a fixture's inputs and choices, under the names that the collation gives them.

    ``needed`` are further pieces of a whole batch.
    """
    batch: dict[str, Any] = {}
    for name, value in given.items():
        if name.startswith("text_"):
            batch[name] = torch.from_numpy(value).long()
        elif name.startswith("false_text_"):  # (sample, candidate, position)
            kind = name.removeprefix("false_text_")
            batch |= {f"false_text_{i}_{kind}": torch.from_numpy(value[:, i]).long() for i in range(value.shape[1])}
    labels = {"text_labels": torch.full_like(batch["text_ids"], -100)} if "text_ids" in batch else {}
    return Given({**batch, **labels}, {name: name for name in ("text_ids", "text_masks", *needed)})
