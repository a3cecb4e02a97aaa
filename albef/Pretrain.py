"""Pre-train ALBEF.

One node, 8 GPUs (the official command), from this folder:
    torchrun --nproc_per_node=8 Pretrain.py --config ./configs/Pretrain.yaml --output_dir output/Pretrain
Several nodes: torchrun's own --nnodes, --node_rank, --rdzv_endpoint; SLURM: srun, one task a GPU. `python -m
torch.distributed.launch --nproc_per_node=8 --use_env` starts the same; without a launcher there is one process.
Go on with a run that was stopped, at its very step: the same command with resume_from=auto.
Go on after an epoch of the official code: --resume --checkpoint checkpoint_07.pth.
Any key of the YAML file may follow: batch_size=32 optimizer.lr=5e-5 schedular.lr=5e-5
"""

from __future__ import annotations

from typing import Any

from albef.config import COMMANDS
from vlp.yaml_dialect.start import start


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from albef.baseline import BASELINE
    from vlp.yaml_dialect.run import run

    run(BASELINE, "Pretrain", config)


if __name__ == "__main__":
    start(COMMANDS["Pretrain"], main)
