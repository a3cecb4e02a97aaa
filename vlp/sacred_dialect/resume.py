"""Which checkpoint a run goes on from (``resume_from``) in the folders ``{log_dir}/{run_name}/version_{k}``."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlp.checkpoint.weights import WeightsError, read_checkpoint
from vlp.sacred_dialect.settings import run_name

log = logging.getLogger(__name__)


def resolve_resume(config: Mapping[str, Any]) -> str | None:
    """``resume_from`` with "auto" replaced by the newest complete last.ckpt of this run's name, or None without one."""
    if config["resume_from"] != "auto":
        return config["resume_from"]
    folder = Path(config["log_dir"]) / run_name(config)
    for path in sorted(folder.glob("version_*/checkpoints/last.ckpt"), key=_version, reverse=True):
        try:
            read_checkpoint(path, mmap=True)
        except WeightsError as error:
            log.warning("[resume] auto: passed over, %s", error)
        else:
            log.info("[resume] auto: %s", path)
            return str(path)
    log.info("[resume] auto: no last.ckpt in %s/version_*, a new run starts", folder)
    return None


def _version(path: Path) -> int:
    match = re.fullmatch(r"version_(\d+)", path.parents[1].name)
    return int(match[1]) if match else -1
