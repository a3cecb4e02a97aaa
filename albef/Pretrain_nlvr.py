r"""Train ALBEF on text assignment, the stage before NLVR2.

    torchrun --nproc_per_node=8 Pretrain_nlvr.py --config ./configs/NLVR_pretrain.yaml \
        --output_dir output/NLVR_pretrain --checkpoint ALBEF.pth
"""

from __future__ import annotations

from typing import Any

from albef.config import COMMANDS
from vlp.yaml_dialect.start import start


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from albef.baseline import BASELINE
    from vlp.yaml_dialect.run import run

    run(BASELINE, "Pretrain_nlvr", config)


if __name__ == "__main__":
    start(COMMANDS["Pretrain_nlvr"], main)
