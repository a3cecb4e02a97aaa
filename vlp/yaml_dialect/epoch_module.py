"""What the models of ALBEF and X-VLM share: steps of epochs, their running means, their evaluation by splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vlp.losses.total import losses_of, total_loss
from vlp.nn.packed_text import TextPlan, text_layout
from vlp.nn.padding import PaddedLayout
from vlp.training.exact_state import epoch_is_complete
from vlp.training.optim import build_optimizer
from vlp.training.running_mean import RunningMean
from vlp.yaml_dialect.epoch_log import tag

Optimization = tuple[list[Optimizer], list[Any]]  # what Lightning's configure_optimizers returns


class EpochModule(L.LightningModule):
    """A model that is trained by epochs; a subclass gives the objectives of a batch and its evaluation.

    Attributes:
        train_stats: after an epoch, the means of ``lr`` and of every meter over its steps and all ranks.
        results: the metrics of each split that the last evaluation scored, by their official names.
    """

    # The official name of a loss in log.txt -> the entry of a step's outputs.
    meters: ClassVar[Mapping[str, str]] = {}
    # Whether their means go on from epoch to epoch.
    since_start: ClassVar[bool] = False
    optimizer_kind: ClassVar[str]  # of vlp.training.optim

    def __init__(self, config: dict[str, Any]) -> None:
        """``config`` is a resolved config; it is saved in every checkpoint."""
        super().__init__()
        self.save_hyperparameters({"config": config})
        self.config = config
        self.step_losses: dict[str, Tensor] = {}  # of the last training batch
        self.train_stats: dict[str, float] = {}
        self.results: dict[str, dict[str, float]] = {}
        self._begun = 0  # splits of this evaluation that have been started
        for meter in self.logged_means:
            setattr(self, f"train_{meter}", RunningMean())

    def text_layout(self, plan: TextPlan) -> PaddedLayout:
        """How sentences are stored: without padding, unless ``pack_text`` is off."""
        return text_layout(plan, self.config["pack_text"])

    def check_data(self, datamodule: Any) -> None:
        """Take what evaluations need of the data, and refuse what they cannot have, before anything is trained.

        Raises:
            DataError, ValueError: the data or the config do not serve.
        """

    def start_evaluation(self, split: str) -> None:
        """Before the first batch of an evaluation split."""

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        """Score one batch of an evaluation split."""
        raise NotImplementedError

    def evaluation_results(self, split: str) -> dict[str, float]:
        """The split's metrics over all ranks, by their official names; every rank calls it."""
        raise NotImplementedError

    # Training --------------------------------------------------------------------------------------------

    def step_outputs(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """All objectives of one training batch; entries whose key ends in ``_loss`` are summed and trained."""
        outputs: dict[str, Any] = self(batch)
        return outputs

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        outputs = self.step_outputs(batch, batch_idx)
        self.step_losses = {name: loss.detach() for name, loss in losses_of(outputs).items()}
        self.count_step(batch, outputs)
        return total_loss(outputs)

    @property
    def logged_means(self) -> tuple[str, ...]:
        """The means of an epoch, in the order of log.txt."""
        return ("lr", *self.meters)

    def count_step(self, batch: dict[str, Any], outputs: Mapping[str, Any]) -> None:
        """Add a training step to the means, and log it."""
        self.count_rate("lr", group=0)
        for meter, key in self.meters.items():
            self.count(meter, outputs[key])
            self.log(f"train/{meter}", outputs[key].detach(), batch_size=1)

    def count(self, meter: str, value: Tensor, weight: int | Tensor = 1) -> None:
        """Add ``value`` () to a mean, ``weight`` times."""
        getattr(self, f"train_{meter}").update(value.detach(), weight)

    def count_rate(self, meter: str, group: int) -> None:
        """Add the learning rate that a group of parameters has now."""
        rate = self.trainer.optimizers[0].param_groups[group]["lr"]
        self.count(meter, torch.full((), rate, device=self.device))

    def on_train_epoch_end(self) -> None:
        if not epoch_is_complete(self.trainer):  # max_steps has cut it: the run that goes on ends it
            return
        for meter in self.logged_means:
            mean: RunningMean = getattr(self, f"train_{meter}")
            self.train_stats[meter] = float(mean.compute())
            if not self.since_start:
                mean.reset()
            if meter in self.meters:
                self.log(f"train/{meter}_epoch", torch.tensor(self.train_stats[meter]), rank_zero_only=True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimiser's groups of parameters."""
        raise NotImplementedError

    def schedule(self, optimizer: Optimizer, steps: int) -> LambdaLR:
        """The learning rates for epochs of ``steps`` steps of the schedule.

        They are the batches of the training loader, or its ``steps`` where it has fewer of these than batches.
        """
        raise NotImplementedError

    def configure_optimizers(self) -> Optimization:
        rate, shard = self.config["optimizer"]["lr"], self.config["shard_optimizer"]
        optimizer = build_optimizer(self.parameter_groups(), self.optimizer_kind, rate, shard)
        loader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        schedule = self.schedule(optimizer, getattr(loader, "steps", len(loader)))
        return [optimizer], [{"scheduler": schedule, "interval": "step", "name": "lr"}]

    # Evaluation ------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._begun = 0

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        if not self.trainer.sanity_checking:  # which sees whether the loaders work
            self._begin(dataloader_idx + 1)
            self.evaluation_step(batch, self._splits[dataloader_idx])

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            return
        self._begin(len(self._splits))
        self._finish()
        for split, metrics in self.results.items():
            for name, value in metrics.items():
                self.log(tag(split, name, "/"), torch.tensor(value), rank_zero_only=True)

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        self.on_validation_epoch_end()

    @property
    def scored_epoch(self) -> int:
        """Whose weights are scored: during training the present epoch's index, afterwards the last one's, else 0."""
        return self.current_epoch if self.trainer.state.fn == "fit" else max(self.current_epoch - 1, 0)

    @property
    def _splits(self) -> tuple[str, ...]:
        return self.trainer.datamodule.eval_splits  # type: ignore[attr-defined]

    def _begin(self, wanted: int) -> None:
        """Finish the splits before, then start: in the same order on every rank, whatever batches it has."""
        while self._begun < wanted:
            self._finish()
            self.start_evaluation(self._splits[self._begun])
            self._begun += 1

    def _finish(self) -> None:
        if self._begun:
            split = self._splits[self._begun - 1]
            self.results[split] = self.evaluation_results(split)
