r"""Fine-tune X-VLM for grounding on RefCOCO+ by boxes, or score a checkpoint.

    python3 run.py --task "refcoco_bbox" --dist "1" --output_dir "output/refcoco_bbox" --checkpoint "4m_base.th"
runs Grounding_bbox_pretrain.py and then
    torchrun --nproc_per_node=8 Grounding_bbox.py --config configs/Grounding_bbox.yaml \
        --output_dir output/refcoco_bbox_refcoco --load_bbox_pretrain \
        --checkpoint output/refcoco_bbox/model_state_epoch_latest.th
Score only: the same with --evaluate and a fine-tuned checkpoint.
"""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.start import start
from xvlm.config import COMMANDS


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from vlp.yaml_dialect.run import run
    from xvlm.baseline import BASELINE

    run(BASELINE, "Grounding_bbox", config)


if __name__ == "__main__":
    start(COMMANDS["Grounding_bbox"], main)
