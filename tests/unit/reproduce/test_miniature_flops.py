"""FLOPs of the miniature's training steps, counted outside a trainer."""

from __future__ import annotations

from pathlib import Path

import pytest

from reproduce.miniature.flops import flops_per_step
from reproduce.miniature.settings import VARIANTS
from tests.unit.reproduce.tiny_checkpoints import scenes_in, tiny_checkpoint
from vlp.data.arrow.convert import make_arrow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a vanilla ViLT and the tables that it is trained on."""
    scenes = scenes_in(tmp_path_factory.mktemp("scenes"))
    make_arrow("coco", scenes / "raw", scenes / "arrow")
    of_data = [f"data_root={scenes / 'arrow'}", "datasets=['coco']", "num_workers=0", "per_gpu_batchsize=2"]
    return tiny_checkpoint("vilt", scenes, *of_data, "image_size=32")


def test_every_kind_of_variant_costs_more_than_vanilla(checkpoint: Path) -> None:
    vanilla = flops_per_step("vilt", checkpoint)
    # VLM (SAS) refreshes once an epoch, whose length a trainer knows; word frequency counts tokens at its start.
    found = [
        flops_per_step("vilt", checkpoint, VARIANTS[name], checkpoint) for name in ("epic", "vlm_sas", "frequency")
    ]
    assert 0 < vanilla < min(found)
    assert found[2] < found[0]  # has no teacher
