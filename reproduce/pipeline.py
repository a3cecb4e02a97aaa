"""Which stages a run of some rows has, in order, each with its command, its hash, and whether it is complete."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reproduce import state
from reproduce.configs import config_hash, resolved_config
from reproduce.experiments import WITH_LISTS, Experiments, Places, Stage
from vlp.config.schema import ConfigError

BATCH_IS_OF_A_GPU = WITH_LISTS  # METER and ViLT accumulate to the same batch on any number


@dataclass(frozen=True)
class Planned:
    """A stage of a run.

    Attributes:
        words: its command, filled.
        config_hash: of what its numbers depend on, the stages that it starts from included.
        complete: whether it has been run with the same hash, and what it left is there.
    """

    stage: Stage
    words: tuple[str, ...]
    folder: Path
    gpus: int
    nodes: int
    config_hash: str
    complete: bool

    @property
    def shown(self) -> str:
        """As a user would type it in the repository."""
        return (
            f"cd {self.stage.baseline} && {shlex.join(self.words)}" if self.stage.baseline else shlex.join(self.words)
        )

    def record(self, scale: str) -> state.Record:
        """Of its ``stage.json`` before it starts; what an earlier attempt of the same hash took stays."""
        before = state.read(self.folder) or {}
        names = ("started", "seconds", "attempts")
        same = before.get("config_hash") == self.config_hash
        kept: state.Record = {name: before[name] for name in names if name in before} if same else {}
        return {
            **{"stage": self.stage.name, "kind": self.stage.kind, "command": self.shown, "scale": scale},
            **{"config_hash": self.config_hash, "gpus": self.gpus, "nodes": self.nodes},
            **{"checkpoint": self.stage.checkpoint, "found": self.stage.found, "scored": self.stage.scored},
            **kept,
            "state": "queued",
        }


def plan(
    experiments: Experiments, names: Iterable[str], places: Places, gpus: int | None = None, nodes: int | None = None
) -> list[Planned]:
    """The stages of these names and what they need.

    ``gpus`` of a machine are those of every stage that uses any, ``nodes`` those of pre-training: fine-tuning and
    evaluation stay on one.

    Raises:
        ConfigError: a command that its baseline does not accept; or a folder that holds another run of the stage.
    """
    planned: dict[str, Planned] = {}
    for name in experiments.needed(names):
        stage = experiments.stage(name)
        machines = (gpus or stage.gpus if stage.gpus else 0), (nodes or stage.nodes if stage.kind == "pretrain" else 1)
        words = experiments.resolved(stage, places, *machines)
        before = [planned[other] for other in stage.after if planned[other].stage.kind != "check"]
        hashed = stage_hash(stage, words, machines[0] * machines[1], [other.config_hash for other in before], places)
        folder = places.folder(name)
        record = state.read(folder)
        same = record is not None and record["config_hash"] == hashed
        complete = same and record["state"] == "done" and state.is_whole(folder, record)  # type: ignore[index,arg-type]
        planned[name] = Planned(stage, tuple(words), folder, *machines, hashed, complete)
        if record is not None and not same:
            _refuse_other(planned[name], record)
    return list(planned.values())


def stage_hash(stage: Stage, words: Sequence[str], processes: int, before: Sequence[str], places: Places) -> str:
    """The config hash of a stage on ``processes`` GPUs; ``before`` are those of the stages that it starts from."""
    counted = stage.baseline in BATCH_IS_OF_A_GPU and stage.kind in ("pretrain", "finetune")
    return config_hash(resolved_config(stage, words), processes if counted else 0, before, places)


def _refuse_other(planned: Planned, record: state.Record) -> None:
    """A folder that holds a training of other settings is not gone on with, and not removed."""
    trained = record["state"] == "done" or next(planned.folder.glob("**/*.ckpt"), None) is not None
    if planned.stage.kind in ("check", "evaluate") or not trained:
        return
    raise ConfigError(
        f"{planned.folder} holds {planned.stage.name} with other settings (or what it starts from has changed): "
        f"it was {record['command']!r}. Move it away, or give another --output"
    )


def notices(planned: Sequence[Planned]) -> list[str]:
    """What is legal and hardly meant: another number of GPUs where that is another batch."""
    lines = []
    for each in planned:
        stage = each.stage
        official, given = stage.gpus * stage.nodes, each.gpus * each.nodes
        if stage.baseline in BATCH_IS_OF_A_GPU and stage.kind in ("pretrain", "finetune") and given != official:
            lines.append(
                f"[notice] {stage.name}: its batch is that of a GPU, the official run has {official} GPUs, this one "
                f"{given}: another batch, and so another training"
            )
    return lines
