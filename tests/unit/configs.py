"""Configs as sacred resolves them, for tests of either Arrow baseline."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from sacred import Experiment
from sacred.initialize import create_run

# Keys of both launchers that are not official.
OURS = {
    *("eval_split", "zero_shot_protocol", "gradient_checkpointing", "compile", "shard_optimizer"),
    *("matmul_precision", "deterministic", "pack_text", "logger"),
    *("log_every_n_steps", "save_every_n_steps", "resume_anyway", "init", "epic", "teacher_path", "saliency_cache"),
}


def resolve(experiment: Experiment, named_configs: Sequence[str] = (), **updates: Any) -> dict[str, Any]:
    """The config of a command line, as sacred resolves it."""
    run = create_run(experiment, "print_config", updates, named_configs=list(named_configs))
    return copy.deepcopy(run.config)
