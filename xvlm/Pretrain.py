r"""Pre-train X-VLM.

One node, 8 GPUs (the official command), from this folder:
    python3 run.py --task "pretrain_4m_base" --dist "1" --output_dir "output/pretrain_4m_base"
which is
    torchrun --nproc_per_node=8 Pretrain.py --config configs/Pretrain_XVLM_base_4m.yaml \
        --output_dir output/pretrain_4m_base
16M images: the latter with Pretrain_XVLM_base_16m.yaml. SLURM: srun, one task a GPU; without a launcher there is one
process. Go on with a run that was stopped, at its very step: the same command with resume_from=auto.
Any key of the YAML file may follow: images.batch_size=64 optimizer.lr=5e-5
"""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.start import start
from xvlm.config import COMMANDS


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from vlp.yaml_dialect.run import run
    from xvlm.baseline import BASELINE

    run(BASELINE, "Pretrain", config)


if __name__ == "__main__":
    start(COMMANDS["Pretrain"], main)
