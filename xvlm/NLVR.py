r"""Fine-tune X-VLM on NLVR2, from a checkpoint of NLVR_pretrain.py, or score a checkpoint.

    python3 run.py --task "nlvr" --dist "1" --output_dir "output/nlvr" --checkpoint "4m_base.th"
runs NLVR_pretrain.py and then
    torchrun --nproc_per_node=8 NLVR.py --config configs/NLVR.yaml --output_dir output/nlvr_nlvr2 \
        --checkpoint output/nlvr/model_state_epoch_latest.th --load_nlvr_pretrain
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

    run(BASELINE, "NLVR", config)


if __name__ == "__main__":
    start(COMMANDS["NLVR"], main)
