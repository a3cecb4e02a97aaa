r"""Fine-tune X-VLM for captioning by cross-entropy, or score a checkpoint.

    python3 run.py --task "coco_capt_domain" --dist "1" --output_dir "output/capt" --checkpoint "4m_base.th"
runs Captioning_pretrain.py and then
    torchrun --nproc_per_node=8 Captioning.py --config ./configs/Captioning.yaml --load_capt_pretrain \
        --output_dir output/capt/coco_capt_ft --checkpoint output/capt/model_state_epoch_latest.th
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

    run(BASELINE, "Captioning", config)


if __name__ == "__main__":
    start(COMMANDS["Captioning"], main)
