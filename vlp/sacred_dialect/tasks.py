"""The tasks that a model of METER or ViLT is built for and trained on, switched by ``loss_names``."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning as L
from torch import Tensor


class Tasks(L.LightningModule):
    """A model of the tasks in ``config["loss_names"]``, as its metrics and its evaluation see it."""

    further_losses: ClassVar[dict[str, tuple[str, ...]]] = {}  # logged of a task beside its loss
    # Of a task that is evaluated on two splits, the one that ``the_metric`` reads.
    deciding_split: ClassVar[str] = "dev"

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config; it is saved in every checkpoint."""
        super().__init__()
        self.save_hyperparameters({"config": config})
        self.config = config
        self.heads = [name for name, value in config["loss_names"].items() if value > 0]
        self.current_tasks = self.heads  # those with an objective

    def caption_states(self, ids: Tensor, mask: Tensor) -> Any:
        """Retrieval: captions ids (C, n), mask (C, n), 1 = valid -> what :meth:`score_captions` needs of them."""
        raise NotImplementedError

    def score_captions(self, image: Tensor, captions: list[Any]) -> Tensor:
        """Retrieval: one image (3, H, W) against all captions, as :meth:`caption_states` gave them -> (M,) scores."""
        raise NotImplementedError
