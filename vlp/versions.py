"""The versions that a run's results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version

_PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "timm", "torchvision", "pillow", "pyarrow", "numpy")


def package_versions() -> dict[str, str]:
    """Python's and the packages' versions, by name."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
