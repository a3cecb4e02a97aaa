"""What the item ``tiny`` makes of a run beside its model: one of two minutes on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRIAL: Mapping[str, Any] = {"max_steps": 100, "num_workers": 2}
