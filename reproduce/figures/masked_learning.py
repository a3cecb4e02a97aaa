"""Both models of Fig. 2 learn from the same batches: their optimisers, and one step of each."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from epic_common.masking import masked_places
from reproduce.figures.masked_models import Models, Predict
from vlp.baseline import Config
from vlp.data.collate import Batch
from vlp.data.masking import IGNORED
from vlp.losses.cross_entropy import mean_cross_entropy
from vlp.training.optim import build_optimizer

_LONGEST_GRADIENT = 1.0  # of both models alike


class Learner(NamedTuple):
    """A model, how it is asked, and what moves it."""

    model: nn.Module
    predict: Predict
    optimizer: Optimizer
    schedule: LambdaLR

    def step(self, batch: Batch) -> Tensor:
        """One optimiser step on a batch's own masks (``text_ids_mlm``, ``text_labels_mlm``); the loss ()."""
        labels = batch["text_labels_mlm"]
        places, _ = masked_places(labels != IGNORED)
        with mixed_precision(labels.device):
            logits = self.predict(batch, batch["text_ids_mlm"], places)
        loss = mean_cross_entropy(logits, labels.flatten()[places])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), _LONGEST_GRADIENT)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()


def learners_of(models: Models, own: Any, config: Config, steps: int) -> dict[str, Learner]:
    """Official groups, optimiser and schedule for the model that sees the image; AdamW for the other one.

    The schedule's course is that of ``steps`` steps, and the same for both; the language model has the base rate.

    Args:
        own: the baseline's own model, see :func:`new_models`.
    """
    optimizer, schedule = _official(models.with_image, own, config, steps)
    block = config.get("optimizer", config)
    rate = block["lr"] if "lr" in block else block["learning_rate"]
    text = torch.optim.AdamW(models.text_only.parameters(), lr=rate, weight_decay=block["weight_decay"])
    course = LambdaLR(text, schedule.lr_lambdas[0])
    moved = {"with_image": (optimizer, schedule), "text_only": (text, course)}
    predict = models.predict()
    return {name: Learner(getattr(models, name), predict[name], *moved[name]) for name in predict}


def _official(model: Any, own: Any, config: Config, steps: int) -> tuple[Optimizer, LambdaLR]:
    if own is model:  # METER and ViLT, whose schedule ends at max_steps
        optimizers, schedules = own.configure_optimizers()
        return optimizers[0], schedules[0]["scheduler"]
    names = {id(parameter): name for name, parameter in own.named_parameters()}
    parameters = dict(model.named_parameters())
    groups = own.parameter_groups()
    for group in groups:
        of_group = [names[id(parameter)] for parameter in group["params"]]
        group["params"] = [parameters[name] for name in of_group if name in parameters]
    optimizer = build_optimizer(groups, own.optimizer_kind, config["optimizer"]["lr"])
    return optimizer, own.schedule(optimizer, max(1, -(-steps // config["schedular"]["epochs"])))


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 on a GPU; float32 on a CPU."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()
