"""Settings of EPIC that are legal but hardly meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from epic_vlp.parts import parts_of, settings_of
from vlp.baseline import Baseline


def odd_settings(baseline: Baseline, config: Mapping[str, Any]) -> Iterator[str]:
    """A line for each of them in a resolved config."""
    parts, settings = parts_of(baseline), settings_of(baseline, config)
    default = parts.settings().to_dict()
    if not settings.enabled:
        changed = [f"epic.{name}={value!r}" for name, value in settings.to_dict().items() if value != default[name]]
        given = [f"{key}={config[key]}" for key in ("teacher_path", "saliency_cache") if config.get(key)]
        if changed or given:
            yield f"EPIC is off, so {', '.join(changed + given)} does nothing: {parts.switch} switches it on"
        return
    if settings.mask_ratio == 0:
        yield "epic.mask_ratio=0 masks no token: nothing is replaced, and every token is consistent"
    if settings.itc_weight == 0:
        yield "epic.itc_weight=0 leaves EPIC's loss out of the total"
    if config["teacher_path"] and not settings.needs_teacher:
        key = "teacher" if settings.masking == "saliency" else "masking"
        value = getattr(settings, key)
        yield f"teacher_path={config['teacher_path']} is not read: epic.{key}={value!r} asks no teacher"
