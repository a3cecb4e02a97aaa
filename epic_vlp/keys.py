"""EPIC's keys in a baseline's configuration."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from epic_common.config import EpicConfig
from vlp.config.kinds import Allowed, Text
from vlp.config.paths import File
from vlp.config.schema import S, Schema, extended, key


def _block(value: Any) -> Any:
    return EpicConfig.from_dict(value) if isinstance(value, dict) else value


Block = Annotated[
    EpicConfig,
    BeforeValidator(_block),
    Allowed("its own keys, such as epic.mask_ratio=0.35, or the named config epic"),
]


class EpicKeys(Schema):
    """What every baseline with EPIC reads beside its own keys."""

    epic: Block = key(EpicConfig(), "EPIC's own keys, each with its reason in choices.md")
    teacher_path: File = key("", "checkpoint of the frozen teacher, this baseline pre-trained without EPIC")
    saliency_cache: Text = key("", "folder of the teacher's scores, by epic_saliency_cache.py, instead of the teacher")


def with_epic_keys(schema: type[S]) -> type[S]:
    """A baseline's schema with :class:`EpicKeys`."""
    return extended(schema, (schema, EpicKeys), {})
