#!/usr/bin/env bash
# ALBEF, 16M: pre-training, on 4 nodes of 8 GPUs, the same command on each node.
# Officially 8 GPUs of 64 pairs; here each takes 16: as many per step, 512.
# A hard negative is one of a GPU's 15 other pairs, not of 63 as with …_8gpus.sh.
# Made by: python -m reproduce scripts. Further arguments go to Pretrain.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
: "${DATA_ROOT:?folder of the raw data sets with their images (docs/data.md)}"
: "${MASTER_ADDR:?address of the first node, the same on all}"
OUTPUT=$(realpath -m -- "$OUTPUT")
DATA_ROOT=$(realpath -m -- "$DATA_ROOT")
MASTER_PORT="${MASTER_PORT:-29500}"
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --rdzv_backend=c10d --rdzv_endpoint="$MASTER_ADDR:$MASTER_PORT" --nnodes=4 --nproc_per_node=8 \
    Pretrain.py --config ./configs/Pretrain_16M.yaml --output_dir "$OUTPUT" image_root="$DATA_ROOT" \
    save_every_n_steps=1000 resume_from=auto batch_size=16 "$@"
