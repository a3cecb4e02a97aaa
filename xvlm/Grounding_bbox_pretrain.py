r"""The stage between pre-training and grounding by boxes.

    torchrun --nproc_per_node=8 Grounding_bbox_pretrain.py --config configs/Grounding_bbox_pretrain_O1.yaml \
        --output_dir output/refcoco_bbox --checkpoint 4m_base.th
`python3 run.py --task "refcoco_bbox"` runs it and then Grounding_bbox.py.
"""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.start import start
from xvlm.config import COMMANDS


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from vlp.yaml_dialect.run import run
    from xvlm.baseline import BASELINE

    run(BASELINE, "Grounding_bbox_pretrain", config)


if __name__ == "__main__":
    start(COMMANDS["Grounding_bbox_pretrain"], main)
