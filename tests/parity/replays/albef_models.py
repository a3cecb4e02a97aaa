"""What the replays of ALBEF's models share: configs and batches of a fixture, models filled as it says.

Source: docs/official/albef.md §11.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from albef.models.checkpoints import load_checkpoint
from tests.parity.replays import TRAINING_PATH, Fixture, Given
from vlp.nn.fusion_passes import Negatives

Batch = dict[str, Any]
Model = TypeVar("Model", bound=nn.Module)

NAMES = {"image": "image", "text_ids": "input_ids", "text_masks": "attention_mask"}  # the loader's -> a fixture's
MODULES = {"nlvr_pretrain": "model_pretrain_nlvr"}


def config_of(fixture: Fixture, mode: str, **further: Any) -> Given:
    """The fixture's official keys, and ours: the sizes of its vision transformer; the plain mode keeps padding."""
    ours = {"pack_text": mode == TRAINING_PATH, "gradient_checkpointing": False, "compile": False}
    start = {"init": "random", "checkpoint": "", "resume_from": None, "momentum_after_loading": False}
    sizes = {"vision_config": sizes_of(fixture.arch)}
    return Given({**sizes, **ours, **start, **fixture.config, **further}, block="config.")


def sizes_of(arch: Mapping[str, Any]) -> dict[str, int]:
    """``vision_config`` of an architecture."""
    return {"patch_size": arch["patch_size"], **{name: arch["vision"][name] for name in ("width", "depth", "heads")}}


def model_of(model_class: Callable[[dict[str, Any]], Model], fixture: Fixture, mode: str, **ours: Any) -> Model:
    """The fixture's model without dropout, filled or loaded as the fixture says; ``ours`` are further keys."""
    config = config_of(fixture, mode, **ours)
    model, checkpoint = model_class(config).eval(), fixture.checkpoint
    if not checkpoint:
        model.load_state_dict(fixture.fill(model.state_dict()))
        return model
    kind = checkpoint["arch"]["model"]
    source_class = import_module(f"albef.models.{MODULES.get(kind, f'model_{kind}')}").ALBEF
    source = source_class(config.also(**checkpoint["config"], vision_config=sizes_of(checkpoint["arch"])))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        torch.save({"model": fixture.fill(source.state_dict(), checkpoint=True)}, path)
        del source
        load_checkpoint(model, path, fixture.arch["model"], "--evaluate" in checkpoint["how"])
    if checkpoint["then_fill"]:
        model.load_state_dict(fixture.fill(model.state_dict(), prefixes=checkpoint["then_fill"]))
    return model


def task_batch(fixture: Fixture, **names: str) -> Given:
    """A batch of a downstream task under the loader's names; ``names`` are ours -> the fixture's of further inputs."""
    return Given.renamed(fixture.inputs, NAMES | names, tensor)


def tensor(value: Any) -> Tensor:
    """An input or choice of a fixture; integers as int64."""
    made = torch.as_tensor(value)
    return made if made.is_floating_point() else made.long()


def pretraining_batch(fixture: Fixture) -> Given:
    """A batch of pre-training under the loader's names."""
    return Given.renamed(fixture.given, NAMES | {"text_ids_mlm": "masked_ids", "text_labels_mlm": "labels"}, tensor)


def steps_of(fixture: Fixture) -> range:
    """The calls in a row whose outputs are stored."""
    return range(
        1 + max((int(name[4:].split(".")[0]) for name in fixture.arrays if name.startswith("step")), default=-1)
    )


def alpha_of(fixture: Fixture, step: int) -> float:
    """The weight of the momentum model's targets in a call."""
    return float(tensor(fixture.inputs["alphas"])[step])


def negatives_of(fixture: Fixture, step: int) -> Negatives:
    """The negatives that a call is forced to draw."""
    return Negatives(*(tensor(fixture.choices[f"neg_{kind}_index"][step]) for kind in ("image", "text")))


def weights(similarities: Tensor, matches: Tensor) -> Tensor:
    """Of the official draw of negatives: similarities (B, B + Q), matches (B, B) bool -> (B, B)."""
    return similarities[:, : len(matches)].softmax(dim=1) * ~matches
