r"""The stage between pre-training and captioning.

    torchrun --nproc_per_node=8 Captioning_pretrain.py --config configs/Captioning_pretrain_O1.yaml \
        --output_dir output/coco_capt_domain --checkpoint 4m_base.th
`python3 run.py --task "coco_capt_domain"` runs it and then Captioning.py.
"""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.start import start
from xvlm.config import COMMANDS


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from vlp.yaml_dialect.run import run
    from xvlm.baseline import BASELINE

    run(BASELINE, "Captioning_pretrain", config)


if __name__ == "__main__":
    start(COMMANDS["Captioning_pretrain"], main)
