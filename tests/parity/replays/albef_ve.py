"""ALBEF's SNLI-VE logits and loss; also of a model that is loaded from a checkpoint of another image size."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from albef.models.checkpoints import load_checkpoint
from albef.models.model_ve import ALBEF
from tests.parity.replays import PLAIN, TRAINING_PATH, Fixture, Outputs, replay
from tests.parity.replays.albef_classes import classified
from tests.parity.replays.albef_models import config_of, model_of, sizes_of, task_batch


@replay("albef", "ve", modes=(PLAIN, TRAINING_PATH))
def ve(fixture: Fixture, mode: str) -> Outputs:
    model = model_of(ALBEF, fixture, mode) if fixture.checkpoint is None else _loaded(fixture, mode)
    batch = task_batch(fixture, labels="targets")
    yield from classified(model, batch, float(fixture.inputs["alpha"]), mode)


def _loaded(fixture: Fixture, mode: str) -> ALBEF:
    checkpoint, config = fixture.checkpoint, config_of(fixture, mode)
    assert checkpoint is not None
    source = ALBEF({**config, **checkpoint["config"], "vision_config": sizes_of(checkpoint["arch"])})
    model = ALBEF(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        torch.save({"model": fixture.fill(source.state_dict(), checkpoint=True)}, path)
        del source
        load_checkpoint(model, path, "ve", evaluate=True)
    if checkpoint["then_fill"]:
        model.load_state_dict(fixture.fill(model.state_dict(), prefixes=checkpoint["then_fill"]))
    return model
