r"""Fine-tune ALBEF for image-text retrieval, or score a checkpoint.

    torchrun --nproc_per_node=8 Retrieval.py --config ./configs/Retrieval_flickr.yaml \
        --output_dir output/Retrieval_flickr --checkpoint ALBEF.pth
COCO: Retrieval_coco.yaml. Score only, zero-shot or fine-tuned: the same with --evaluate.
"""

from __future__ import annotations

from typing import Any

from albef.config import COMMANDS
from vlp.yaml_dialect.start import start


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from albef.baseline import BASELINE
    from vlp.yaml_dialect.run import run

    run(BASELINE, "Retrieval", config)


if __name__ == "__main__":
    start(COMMANDS["Retrieval"], main)
