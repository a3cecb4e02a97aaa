#!/usr/bin/env bash
# X-VLM with EPIC, 4M: pre-training, on 4 nodes of 8 GPUs, the same command on each node.
# Officially 8 GPUs of 128 pairs; here each takes 32: as many per step, 1024.
# A hard negative is one of a GPU's 31 other pairs, not of 127 as with …_8gpus.sh.
# Made by: python -m reproduce scripts. Further arguments go to Pretrain.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
: "${TEACHER:?checkpoint of a vanilla pre-training}"
: "${MASTER_ADDR:?address of the first node, the same on all}"
OUTPUT=$(realpath -m -- "$OUTPUT")
TEACHER=$(realpath -m -- "$TEACHER")
MASTER_PORT="${MASTER_PORT:-29500}"
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --rdzv_backend=c10d --rdzv_endpoint="$MASTER_ADDR:$MASTER_PORT" --nnodes=4 --nproc_per_node=8 \
    Pretrain.py --config configs/Pretrain_XVLM_base_4m_epic.yaml --output_dir "$OUTPUT" \
    teacher_path="$TEACHER" save_every_n_steps=1000 resume_from=auto images.batch_size=32 \
    regions.batch_size=32 regions.max_images=12 "$@"
