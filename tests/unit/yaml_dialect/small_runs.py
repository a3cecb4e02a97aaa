"""A script of its own: a model of a few numbers, its data and its keys, through the real command line and engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from albef.checkpoint_files import every_epoch
from albef.keys import AlbefKeys, MomentumKeys
from albef.models.albef_module import AlbefModule
from vlp.checkpoint.layout import CheckpointLayout
from vlp.checkpoint.weights import read_state_dict
from vlp.config.kinds import Positive, Switch
from vlp.config.schema import key
from vlp.data.datamodule import RunDataModule
from vlp.data.samplers import ResumableDistributedSampler
from vlp.distributed import gathered_rows, sum_across_ranks
from vlp.yaml_dialect.baseline import Script, YamlBaseline
from vlp.yaml_dialect.command import Command
from vlp.yaml_dialect.command_line import resolved
from vlp.yaml_dialect.kept_files import Keeps
from vlp.yaml_dialect.keys import EvaluateKeys, Flag

YAML = """
batch_size: 2
rows: 9
num_workers: 0
log_every_n_steps: 1
optimizer: {opt: adamW, lr: 1e-2, weight_decay: 0.02}
schedular: {sched: cosine, lr: 1e-2, epochs: 3, min_lr: 1e-4, warmup_lr: 1e-3, warmup_epochs: 1}
"""


class SmallKeys(EvaluateKeys, MomentumKeys, AlbefKeys):
    """Of the small script."""

    least_batch: ClassVar[int] = 2
    resume: Annotated[Switch, Flag()] = key(False, "go on after an official checkpoint's epoch")
    batch_size: Positive = key(2, "samples")
    rows: Positive = key(9, "of the training set")
    validate_rows: int = key(5, "of each evaluation split; 0: none")


class Rows:
    """0 … n-1."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        return i


class SmallData(RunDataModule):
    """Batches of numbers; two evaluation splits, of which the second has one row more."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        n = config["validate_rows"]
        self.has_validation = n > 0
        self.eval_splits = ("val", "test") if n else ()
        self.sets = {"train": Rows(config["rows"]), "val": Rows(n), "test": Rows(n + 1)}

    def new_train_sampler(self, processes: int, rank: int) -> ResumableDistributedSampler:
        return ResumableDistributedSampler(
            self.sets["train"], num_replicas=processes, rank=rank, seed=self.config["seed"]
        )

    def samples_in(self, batch: dict[str, Any]) -> int:
        return len(batch["index"])

    def _processes(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train", self.resumed_train_sampler(*self._processes()), drop_last=True)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return self.test_dataloader() if self.has_validation else []

    def test_dataloader(self) -> list[DataLoader[Any]]:
        processes, rank = self._processes()
        share = {"num_replicas": processes, "rank": rank}  # padded to as many batches on every process
        return [
            self._loader(split, ResumableDistributedSampler(self.sets[split], shuffle=False, **share), drop_last=False)
            for split in self.eval_splits
        ]

    def _loader(self, split: str, sampler: Any, drop_last: bool) -> DataLoader[Any]:
        options: dict[str, Any] = {"collate_fn": collate, "generator": torch.Generator(), "drop_last": drop_last}
        return DataLoader(self.sets[split], self.config["batch_size"], sampler=sampler, **options)  # type: ignore[arg-type]


def collate(rows: list[int]) -> dict[str, Any]:
    return {"index": rows, "dataset": ["small"] * len(rows), "x": torch.tensor(rows).float()[:, None] / 10}


class SmallModel(AlbefModule):
    """A queue, a momentum copy, dropout and a temperature: the kinds of state that ALBEF has."""

    meters: ClassVar = {"loss_fit": "fit_loss", "loss_soft": "soft_loss"}
    queue: Tensor
    pointer: Tensor
    encoder_m: nn.Linear

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.dropout, self.last = nn.Dropout(0.3), nn.Linear(4, 1)
        self.encoder = nn.Sequential(nn.Linear(1, 4), nn.LayerNorm(4), self.dropout)
        self.encoder_m = nn.Linear(1, 1).requires_grad_(False)
        self.temp = nn.Parameter(torch.ones([]))
        self.register_buffer("queue", torch.zeros(6))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))
        self.alphas: list[float] = []
        self.calls: list[str] = []

    def score(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.encoder(x))
        return y

    def forward(self, batch: dict[str, Any], alpha: float) -> dict[str, Any]:
        self.alphas.append(alpha)
        with torch.no_grad():
            self.encoder_m.weight.mul_(0.9).add_(self.last.weight.mean() * 0.1)
            soft = self.encoder_m(batch["x"]) + self.queue.mean()
        y = self.score(batch["x"]) / self.temp
        features = gathered_rows(y.detach())[:, 0]  # of all processes, so that each has the same queue
        rows = len(features)
        place = (self.pointer + torch.arange(rows)) % len(self.queue)
        self.queue.index_copy_(0, place, features)
        self.pointer.add_(rows).remainder_(len(self.queue))
        return {"fit_loss": ((y - batch["x"]) ** 2).mean(), "soft_loss": alpha * ((y - soft) ** 2).mean()}

    def start_evaluation(self, split: str) -> None:
        self.calls.append(f"start {split}")
        self.seen = torch.zeros(2)

    def evaluation_step(self, batch: dict[str, Any], split: str) -> None:
        assert self.calls[-1] == f"start {split}"
        self.seen += torch.stack([self.score(batch["x"]).sum(), torch.tensor(float(len(batch["x"])))])

    def evaluation_results(self, split: str) -> dict[str, float]:
        self.calls.append(f"results {split}")
        total, rows = sum_across_ranks(self.seen.clone()).tolist()
        return {"acc": total / rows, "rows": rows}


def load(model: nn.Module, path: str | Path, evaluate: bool) -> list[str]:
    return list(model.load_state_dict(read_state_dict(path), strict=False).missing_keys)


COMMAND = Command("Small", "Small.yaml", SmallKeys)


def baseline(keeps: Keeps = every_epoch, selected: bool = False, **further: Any) -> YamlBaseline:
    """A baseline whose one script is the small one."""
    script = Script(
        command=COMMAND,
        task="small",
        model=SmallModel,
        datamodule=SmallData,
        load=load,
        keeps=keeps,
        selection=("val", "acc") if selected else None,
        protocol="none",
        **further,
    )
    layout = CheckpointLayout("Small", ("encoder.",), (), ("rows",), ("encoder.",))
    return YamlBaseline(
        name="small",
        model=SmallModel,
        datamodule=SmallData,
        layout=layout,
        heads=(),
        text_family="bert",
        scripts={"Small": script},
    )


def config_of(folder: Path, *argv: str) -> dict[str, Any]:
    """The configuration of a command line; the run's folder is ``folder/out``."""
    (folder / "Small.yaml").write_text(YAML, encoding="utf-8")
    return resolved(COMMAND, ["--config", str(folder / "Small.yaml"), "--output_dir", str(folder / "out"), *argv])
