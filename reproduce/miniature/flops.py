"""FLOPs of a training step, counted on the models of the miniature."""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.counting import count_flops
from demo.baselines import BASELINES
from demo.yaml_demo import YamlDemo
from epic_vlp.attach import attach_epic
from epic_vlp.token_counts import count_tokens
from reproduce.figures.masked_data import training_batches
from vlp.baseline import get_baseline
from vlp.checkpoint.weights import saved_config
from vlp.losses.total import total_loss

BATCHES = 6  # of X-VLM a third are of regions


def flops_per_step(
    baseline: str, checkpoint: Path, epic: dict[str, Any] | None = None, teacher: Path | None = None
) -> float:
    """The mean over some training batches of the forward and the backward pass; the optimiser counts nothing.

    Args:
        checkpoint: whose configuration is counted.
        epic: other keys of EPIC than it has.
    """
    description: Any = get_baseline(baseline)
    config = {**saved_config(checkpoint), "load_path": "", "checkpoint": "", "resume_from": None}
    if epic is not None:
        config |= {"epic": {**config["epic"], **epic}, "teacher_path": "" if teacher is None else str(teacher)}
    if config["epic"]["replacement"] == "vlm" and not config["epic"]["sas_refresh_steps"]:
        config["epic"] = {**config["epic"], "sas_refresh_steps": 1}  # an epoch's steps are known to a trainer alone
    datamodule = description.datamodule(config)
    model: Any = description.model(config)
    if config["epic"]["enabled"]:
        attach_epic(description, model, datamodule, rank=0)
        count_tokens(model.epic, datamodule, model.device, rank=0, processes=1)
    model.train()
    demo = BASELINES[baseline]

    def loss(batch: dict[str, Any]) -> Any:
        return total_loss(demo.outputs(model, batch) if isinstance(demo, YamlDemo) else model(batch))

    counted = [count_flops(partial(loss, batch), {}) for batch in islice(training_batches(datamodule), BATCHES)]
    return sum(sum(parts.values()) for parts in counted) / BATCHES
