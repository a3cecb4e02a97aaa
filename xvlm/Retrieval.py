r"""Fine-tune X-VLM for image-text retrieval, or score a checkpoint.

    python3 run.py --task "itr_coco" --dist "1" --output_dir "output/itr_coco" --checkpoint "4m_base.th"
which is
    torchrun --nproc_per_node=8 Retrieval.py --config configs/Retrieval_coco.yaml --output_dir output/itr_coco \
        --checkpoint 4m_base.th
Flickr30k: itr_flickr, Retrieval_flickr.yaml. Score only: the same with --evaluate, which takes a fine-tuned checkpoint
or, zero-shot, one of pre-training. --bs is the batch of all GPUs.
"""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.start import start
from xvlm.config import COMMANDS


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from vlp.yaml_dialect.run import run
    from xvlm.baseline import BASELINE

    run(BASELINE, "Retrieval", config)


if __name__ == "__main__":
    start(COMMANDS["Retrieval"], main)
