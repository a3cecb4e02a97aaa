"""Pre-train, fine-tune or evaluate ViLT.

One node, 8 GPUs (the official command):
    python run.py with data_root=<ARROW_ROOT> num_gpus=8 num_nodes=1 task_mlm_itm whole_word_masking=True step200k \
        per_gpu_batchsize=64
Many nodes: the same command once per node with num_nodes=N and MASTER_ADDR, MASTER_PORT, NODE_RANK=0..N-1 exported.
Fine-tune on VQAv2; likewise task_finetune_nlvr2_randaug, task_finetune_irtr_coco_randaug and …_f30k_randaug:
    python run.py with data_root=<ARROW_ROOT> num_gpus=8 num_nodes=1 task_finetune_vqa_randaug \
        per_gpu_batchsize=64 load_path=vilt_200k_mlm_itm.ckpt
Evaluate: the same with the fine-tuned checkpoint as load_path, test_only=True and precision=32.
Zero-shot retrieval of a pre-trained checkpoint:
    python run.py with data_root=<ARROW_ROOT> num_gpus=1 task_finetune_irtr_f30k_randaug per_gpu_batchsize=4 \
        load_path=vilt_200k_mlm_itm.ckpt test_only=True precision=32
"""

from __future__ import annotations

from typing import Any

from vilt.config import ViltKeys, ex
from vlp.sacred_dialect.command_line import launch


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from vilt.baseline import BASELINE
    from vlp.sacred_dialect.run import run

    run(BASELINE, config)


if __name__ == "__main__":
    launch(ex, ViltKeys, main)
