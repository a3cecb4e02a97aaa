"""What EPIC reads in the configs of the baselines with sacred's command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from epic_common.config import EpicConfig
from epic_vlp.extension import EpicExtension
from epic_vlp.parts import Config


def check_tasks(config: Mapping[str, Any], settings: EpicConfig) -> None:
    """Refuse a run whose tasks are none of pre-training, or lack the MLM that "VLM (SAS)" draws words from.

    Raises:
        ValueError: naming the key.
    """
    trained = {task for task, value in config["loss_names"].items() if value > 0}
    if not trained & {"mlm", "itm"} or trained - {"mlm", "itm", "mpp"}:
        raise ValueError("epic.enabled: EPIC is a pre-training objective; fine-tune its checkpoint without it")
    if settings.replacement == "vlm" and "mlm" not in trained:
        raise ValueError("epic.replacement='vlm' needs loss_names.mlm=1: the student's MLM head proposes the words")


def as_teacher(path: str, config: Mapping[str, Any], settings: EpicConfig) -> Config:
    """A model of no task, or with the MLM head of "VLM (SAS)", that starts from the file ``path``."""
    heads = {task: int(task == "mlm" and settings.replacement == "vlm") for task in config["loss_names"]}
    return {"loss_names": heads, "load_path": path, "gradient_checkpointing": False}


def hidden_size(config: Mapping[str, Any]) -> int:
    """Width of all states."""
    return config["hidden_size"]


@dataclass(frozen=True, kw_only=True)
class SacredExtension(EpicExtension):
    """EPIC in a baseline with sacred's command line, Arrow tables and no momentum model."""

    check_run: Callable[[Mapping[str, Any], EpicConfig], None] = check_tasks
    as_teacher: Callable[[str, Mapping[str, Any], EpicConfig], Config] = as_teacher
    text_width: Callable[[Mapping[str, Any]], int] = hidden_size
    image_width: Callable[[Mapping[str, Any]], int] = hidden_size
    text_encoder: str = "tokenizer"
    longest_text: str | None = "max_text_len"
    momentum_model: bool = False
    switch: str = "the named config epic"
