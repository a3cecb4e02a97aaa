"""The student's own running average as the teacher (``epic.teacher="momentum"``), where a baseline keeps none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from epic_common.teacher import Teacher, VisionLanguageModel
from vlp.nn.momentum import mix


class RunningAverage(Teacher):
    """A frozen model that is a copy of the student when a run begins and follows it after every optimiser step.

    Args:
        model: of the student's architecture, with as many of its parts as Eq. 8 asks.
        layer: ``epic.saliency_layer``.
        decay: of the average what stays in every step (``epic.teacher_decay``).
    """

    def __init__(self, model: VisionLanguageModel, layer: int, decay: float) -> None:
        super().__init__(model, layer)
        self.decay = decay
        self.step: int | None = None  # of the student that was followed last

    @torch.no_grad()
    def follow(self, student: nn.Module, step: int) -> None:
        """average <- decay · average + (1 - decay) · student, once for each ``step`` (optimiser steps done).

        The first time the average becomes what the student is.

        Raises:
            ValueError: the student lacks a weight of the average.
        """
        if step == self.step:
            return
        if self.step is None:
            self.fill(student.state_dict())
        else:
            trained = dict(student.named_parameters(remove_duplicate=False))
            own = dict(self.module.named_parameters())
            mix([trained[name].data for name in own], [average.data for average in own.values()], self.decay)
        self.step = step

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs: the last step that was followed, and the weights if there is one."""
        return {"step": self.step, "weights": None if self.step is None else self.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.step = state["step"]
        if self.step is not None:
            self.fill(state["weights"])
