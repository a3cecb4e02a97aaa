"""The config hash that a stage has now, for the machines of its run: a file of another hash is not its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reproduce import state
from reproduce.experiments import Experiments, Places, Stage
from reproduce.pipeline import stage_hash
from vlp.config.schema import ConfigError


class Hashes:
    """Of stages whose runs are below ``places.root``."""

    def __init__(self, experiments: Experiments, places: Places) -> None:
        self._experiments, self._places = experiments, places
        self._known: dict[str, str] = {}

    def __call__(self, stage: Stage, record: Mapping[str, Any]) -> str:
        """With the GPUs and nodes of its ``stage.json``, as far as that names any, and those of what it starts from."""
        if stage.name not in self._known:
            gpus, nodes = (_number(record.get(name)) for name in ("gpus", "nodes"))
            words = self._experiments.resolved(stage, self._places, gpus, nodes)
            before = [self._experiments.stage(name) for name in stage.after]
            self._known[stage.name] = stage_hash(
                stage,
                words,
                processes=(gpus or stage.gpus) * (nodes or stage.nodes),
                before=[self(other, self._record(other)) for other in before if other.kind != "check"],
                places=self._places,
            )
        return self._known[stage.name]

    def _record(self, stage: Stage) -> Mapping[str, Any]:
        try:
            return state.read(self._places.folder(stage.name)) or {}
        except ConfigError:
            return {}


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
