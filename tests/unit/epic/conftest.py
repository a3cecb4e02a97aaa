"""One thread, since the models here are so small that a second one only costs; a fixed seed; a few captions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captions whose colour, ground and animal always go together."""
    path = tmp_path_factory.mktemp("captions") / "captions.txt"
    thirds = ["a black cat on a sofa", "a brown dog on the grass", "a white goat on a hill", "a green fish in the sea"]
    ends = ["sleeps", "stands still", "looks at the camera", "is seen from afar"]
    lines = [f"{scene} {end}" for _ in range(12) for scene, end in itertools.product(thirds, ends)]
    path.write_text("\n".join([*lines, "", "  "]), encoding="utf-8")
    return path
