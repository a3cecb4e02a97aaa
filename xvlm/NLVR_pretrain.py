r"""Text assignment: the stage between pre-training and NLVR2.

    torchrun --nproc_per_node=8 NLVR_pretrain.py --config configs/NLVR_pretrain_O1.yaml \
        --output_dir output/nlvr --checkpoint 4m_base.th
`python3 run.py --task "nlvr"` runs it and then NLVR.py.
"""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.start import start
from xvlm.config import COMMANDS


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from vlp.yaml_dialect.run import run
    from xvlm.baseline import BASELINE

    run(BASELINE, "NLVR_pretrain", config)


if __name__ == "__main__":
    start(COMMANDS["NLVR_pretrain"], main)
