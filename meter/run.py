"""Pre-train, fine-tune or evaluate METER.

One node, 8 GPUs (the official command):
    python run.py with data_root=<ARROW_ROOT> num_gpus=8 num_nodes=1 task_mlm_itm_clip_bert \
        per_gpu_batchsize=32 clip16 text_roberta image_size=288
Many nodes: the same command once per node with num_nodes=N and MASTER_ADDR, MASTER_PORT, NODE_RANK=0..N-1 exported.
Fine-tune on VQAv2; likewise nlvr2, snli, irtr_coco and irtr_f30k, each at its own image_size:
    python run.py with data_root=<ARROW_ROOT> num_gpus=8 num_nodes=1 task_finetune_vqa_clip_bert \
        per_gpu_batchsize=32 load_path=meter_pretrain.ckpt clip16 text_roberta image_size=576 clip_randaug
Evaluate: the same with the fine-tuned checkpoint as load_path, without clip_randaug, with test_only=True.
Zero-shot retrieval of a pre-trained checkpoint:
    python run.py with data_root=<ARROW_ROOT> num_gpus=1 task_finetune_irtr_f30k_clip_bert get_recall_metric=True \
        per_gpu_batchsize=32 load_path=meter_pretrain.ckpt clip16 text_roberta image_size=384 test_only=True
"""

from __future__ import annotations

from typing import Any

from meter.config import MeterKeys, ex
from vlp.sacred_dialect.command_line import launch


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from meter.baseline import BASELINE
    from vlp.sacred_dialect.run import run

    run(BASELINE, config)


if __name__ == "__main__":
    launch(ex, MeterKeys, main)
