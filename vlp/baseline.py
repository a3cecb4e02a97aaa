"""What a baseline says of itself, once, and the list of the baselines.

The launchers, EPIC, the demo, the benchmarks, the checkpoint tool and the tests read it; docs/add_a_baseline.md says
how to write one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import lightning as L

from vlp.checkpoint.layout import CheckpointLayout
from vlp.data.datamodule import RunDataModule

Config = dict[str, Any]

# Folder of a baseline -> the module that holds its description, ``BASELINE``.
REGISTRY = {name: f"{name}.baseline" for name in ("meter", "vilt", "albef", "xvlm")}


@dataclass(frozen=True)
class Baseline:
    """A baseline: model, data and checkpoints, whatever its command line.

    Attributes:
        name: its folder, and its name in ``results.json`` and on command lines.
        model: built from a resolved config; a LightningModule that leaves ``step_losses`` to the engine's guard.
        datamodule: built from a resolved config.
        layout: what its checkpoints look like; ``layout.title`` is how readers know it.
        heads: prefixes of the parameters that belong to one task each and that its evaluation cannot do without.
        text_family: whose tokenizer it reads captions with, "roberta" or "bert".
        extension: an objective that is added to it.
    """

    name: str
    model: Callable[[Config], L.LightningModule]
    datamodule: type[RunDataModule]
    layout: CheckpointLayout
    heads: tuple[str, ...]
    text_family: str
    extension: Extension | None = None

    @property
    def title(self) -> str:
        """How readers and messages know it."""
        return self.layout.title


class Extension(Protocol):
    """An objective that joins the runs of a baseline without the baseline's code knowing more of it.

    Attributes:
        may_change: keys that a resumed run may have other than its checkpoint.
    """

    may_change: ClassVar[tuple[str, ...]]

    def check(self, baseline: Any, config: Mapping[str, Any]) -> None:
        """Refuse what cannot run, before anything is built.

        Raises:
            ValueError: naming the key and what to do.
        """

    def settle(self, baseline: Any, config: Config) -> None:
        """Write into a checked config what those of its keys mean that it leaves to the baseline."""

    def odd_settings(self, baseline: Any, config: Mapping[str, Any]) -> Iterable[str]:
        """A line for each of its settings that is legal and hardly meant."""

    def join(self, baseline: Any, model: Any, datamodule: Any, trainer: L.Trainer) -> None:
        """Add its parts to what is built, before any checkpoint is loaded; nothing where the config has it off."""


def get_baseline(name: str) -> Any:
    """The description of a registered baseline.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in REGISTRY:
        raise ValueError(f"there is no baseline {name!r}: choose {', '.join(REGISTRY)}")
    return importlib.import_module(REGISTRY[name]).BASELINE
