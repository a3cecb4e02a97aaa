#!/usr/bin/env bash
# X-VLM, 16M: pre-training, on 3 nodes of 8 GPUs, the same command on each node.
# Made by: python -m reproduce scripts. Further arguments go to Pretrain.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
: "${MASTER_ADDR:?address of the first node, the same on all}"
OUTPUT=$(realpath -m -- "$OUTPUT")
MASTER_PORT="${MASTER_PORT:-29500}"
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --rdzv_backend=c10d --rdzv_endpoint="$MASTER_ADDR:$MASTER_PORT" --nnodes=3 --nproc_per_node=8 \
    Pretrain.py --config configs/Pretrain_XVLM_base_16m.yaml --output_dir "$OUTPUT" regions.tokenized=False \
    save_every_n_steps=1000 resume_from=auto "$@"
