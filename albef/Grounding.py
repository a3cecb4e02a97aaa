r"""Fine-tune ALBEF for weakly supervised grounding on RefCOCO+, or score a checkpoint.

    torchrun --nproc_per_node=8 Grounding.py --config ./configs/Grounding.yaml --output_dir output/RefCOCO \
        --gradcam_mode itm --block_num 8 --checkpoint ALBEF.pth
Score only: the same with --evaluate and a fine-tuned checkpoint.
"""

from __future__ import annotations

from typing import Any

from albef.config import COMMANDS
from vlp.yaml_dialect.start import start


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from albef.baseline import BASELINE
    from vlp.yaml_dialect.run import run

    run(BASELINE, "Grounding", config)


if __name__ == "__main__":
    start(COMMANDS["Grounding"], main)
