r"""Fine-tune X-VLM for grounding on RefCOCO+ without boxes, or score a checkpoint.

    python3 run.py --task "refcoco_weakly" --dist "1" --output_dir "output/refcoco_weakly" --checkpoint "4m_base.th"
which is
    torchrun --nproc_per_node=8 Grounding.py --config ./configs/Grounding.yaml --output_dir output/refcoco_weakly \
        --gradcam_mode itm --block_num 9 --checkpoint 4m_base.th
Score only: the same with --evaluate and a fine-tuned checkpoint. --epochs N trains shorter or longer.
"""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.start import start
from xvlm.config import COMMANDS


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from vlp.yaml_dialect.run import run
    from xvlm.baseline import BASELINE

    run(BASELINE, "Grounding", config)


if __name__ == "__main__":
    start(COMMANDS["Grounding"], main)
