r"""Fine-tune ALBEF on NLVR2, from a checkpoint of Pretrain_nlvr.py, or score a checkpoint.

    torchrun --nproc_per_node=8 NLVR.py --config ./configs/NLVR.yaml --output_dir output/NLVR \
        --checkpoint output/NLVR_pretrain/checkpoint_00.pth
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

    run(BASELINE, "NLVR", config)


if __name__ == "__main__":
    start(COMMANDS["NLVR"], main)
