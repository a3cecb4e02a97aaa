"""Fine-tune X-VLM for visual question answering, or score a checkpoint.

    python3 run.py --task "vqa" --dist "1" --output_dir "output/vqa" --checkpoint "4m_base.th"
which is
    torchrun --nproc_per_node=8 VQA.py --config ./configs/VQA.yaml --output_dir output/vqa --checkpoint 4m_base.th
At 480 pixels: vqa_480, VQA_480.yaml. Answers only: the same with --evaluate and a fine-tuned checkpoint.
"""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.start import start
from xvlm.config import COMMANDS


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from vlp.yaml_dialect.run import run
    from xvlm.baseline import BASELINE

    run(BASELINE, "VQA", config)


if __name__ == "__main__":
    start(COMMANDS["VQA"], main)
