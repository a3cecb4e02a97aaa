"""Sacred experiments of METER and ViLT: every key with its default, and what cannot run.

base config < named configs in the order written < ``key=value`` updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sacred import SETTINGS, Experiment

from vlp.config.schema import defaults
from vlp.sacred_dialect.keys import SacredKeys


def new_experiment(name: str, schema: type[SacredKeys], named_configs: Mapping[str, Mapping[str, Any]]) -> Experiment:
    """A sacred experiment whose base config is every key of ``schema`` with its default."""
    # Sacred's capture of stdout would swallow progress bars, and its frozen lists cannot be saved.
    SETTINGS.CAPTURE_MODE = "no"
    SETTINGS.CONFIG.READ_ONLY_CONFIG = False
    experiment = Experiment(name, save_git_info=False)
    experiment.add_config(defaults(schema))
    for each, values in named_configs.items():
        experiment.add_named_config(each, dict(values))
    return experiment


def base_config(experiment: Experiment) -> dict[str, Any]:
    """Every key with its default."""
    base: dict[str, Any] = {}
    for scope in experiment.configurations:
        base |= scope()
    return base
