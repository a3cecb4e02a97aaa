"""EPIC's keys in a baseline's configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from epic_common.config import EpicConfig, RegionEpicConfig
from vlp.config.kinds import Allowed, Text
from vlp.config.paths import File
from vlp.config.schema import S, Schema, extended, key


def _reads(kind: type[EpicConfig]) -> BeforeValidator:
    return BeforeValidator(lambda value: kind.from_dict(value) if isinstance(value, dict) else value)


_OWN_KEYS = Allowed("its own keys, such as epic.mask_ratio=0.35, or the named config epic")
Block = Annotated[EpicConfig, _reads(EpicConfig), _OWN_KEYS]
RegionBlock = Annotated[RegionEpicConfig, _reads(RegionEpicConfig), _OWN_KEYS]


class EpicKeys(Schema):
    """What every baseline with EPIC reads beside its own keys."""

    epic: Block = key(EpicConfig(), "EPIC's own keys, each with its reason in choices.md")
    teacher_path: File = key("", "checkpoint of the frozen teacher, this baseline pre-trained without EPIC")
    saliency_cache: Text = key("", "folder of the teacher's scores, by epic_saliency_cache.py, instead of the teacher")


class RegionEpicKeys(EpicKeys):
    """Those of a baseline that also reads texts of image regions."""

    epic: RegionBlock = key(RegionEpicConfig(), "EPIC's own keys, each with its reason in choices.md")


def with_epic_keys(schema: type[S]) -> type[S]:
    """A baseline's schema with :class:`EpicKeys`."""
    return extended(schema, (schema, EpicKeys), {})


def with_region_epic_keys(schema: type[S]) -> type[S]:
    """The same of a baseline that also reads texts of image regions."""
    return extended(schema, (schema, RegionEpicKeys), {})
