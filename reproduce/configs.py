"""What the command of a stage resolves to, by the baseline's own check of its command line, and a hash of it."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reproduce.experiments import REPOSITORY, WITH_LISTS, Places, Stage
from vlp.config.schema import ConfigError
from vlp.sacred_dialect.command_line import configured as of_items
from vlp.yaml_dialect.command_line import configured

SCHEMAS = {"meter": "MeterKeys", "vilt": "ViltKeys"}  # of the baselines with sacred's command line
# Where a run is and how it is watched, which its numbers do not depend on.
PLACES = {
    *("data_root", "log_dir", "output_dir", "resume_from", "resume_anyway", "num_gpus", "num_nodes", "world_size"),
    *("num_workers", "log_every_n_steps", "save_every_n_steps", "ckpt_frequent", "device"),
}


def resolved_config(stage: Stage, words: Sequence[str]) -> dict[str, Any]:
    """The configuration of a stage's command, which is that of ``words``; of no launcher's, the words.

    Raises:
        ConfigError: a line for each wrong key or named config.
    """
    if stage.baseline in SCHEMAS and list(words[:3]) == ["python", "run.py", "with"]:
        return _of_items(stage, words[3:])
    if stage.baseline in WITH_LISTS and (script := next((w for w in words if w.endswith(".py")), "")):
        return _of_flags(stage, script, words[list(words).index(script) + 1 :])
    return {"command": list(words)}


def _of_items(stage: Stage, items: Sequence[str]) -> dict[str, Any]:
    module = importlib.import_module(f"{stage.baseline}.config")
    try:
        return of_items(module.ex, getattr(module, SCHEMAS[stage.baseline]), items)
    except ConfigError as error:
        raise ConfigError("\n".join(f"stage {stage.name}: {line}" for line in str(error).splitlines())) from None


def _of_flags(stage: Stage, script: str, words: Sequence[str]) -> dict[str, Any]:
    commands = importlib.import_module(f"{stage.baseline}.config").COMMANDS
    try:
        # The file is named from the folder in which the script runs.
        i = list(words).index("--config") + 1
        absolute = [*words[:i], str(REPOSITORY / stage.baseline / words[i]), *words[i + 1 :]]
        return configured(commands[Path(script).stem], absolute)
    except ConfigError as error:
        raise ConfigError("\n".join(f"stage {stage.name}: {line}" for line in str(error).splitlines())) from None
    except SystemExit:
        raise ConfigError(f"stage {stage.name}: wrong flags, see above") from None


def config_hash(config: dict[str, Any], processes: int, before: Sequence[str], places: Places) -> str:
    """A hash of what a stage's numbers depend on, wherever it runs.

    Args:
        config: as :func:`resolved_config` gives it.
        processes: where their number decides the batch, else 0.
        before: the hashes of the stages that it starts from.
        places: folders of this run, which other runs may have elsewhere.
    """
    kept = {name: value for name, value in config.items() if name not in PLACES}
    text = json.dumps([kept, processes, list(before)], sort_keys=True, default=str)
    names = {str(REPOSITORY): "{repository}", str(places.root): "{root}", str(places.data): "{data}"}
    for folder in sorted(names, key=len, reverse=True):  # one may lie in another
        text = text.replace(folder, names[folder])
    return hashlib.sha256(text.encode()).hexdigest()
