"""Fine-tune ALBEF on VQAv2, or answer its test questions with a checkpoint.

    torchrun --nproc_per_node=8 VQA.py --config ./configs/VQA.yaml --output_dir output/vqa --checkpoint ALBEF.pth
Answer only: the same with --evaluate and a fine-tuned checkpoint.
"""

from __future__ import annotations

from typing import Any

from albef.config import COMMANDS
from vlp.yaml_dialect.start import start


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from albef.baseline import BASELINE
    from vlp.yaml_dialect.run import run

    run(BASELINE, "VQA", config)


if __name__ == "__main__":
    start(COMMANDS["VQA"], main)
