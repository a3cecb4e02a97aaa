#!/usr/bin/env bash
# ViLT, 4M: pre-training, on 4 nodes of 8 GPUs, the same command on each node.
# Officially 8 GPUs. Gradients are accumulated to as many pairs per step.
# Made by: python -m reproduce scripts. Further arguments go to run.py.
set -euo pipefail
: "${DATA_ROOT:?folder of the Arrow tables (docs/data.md)}"
: "${OUTPUT:?folder of the run}"
: "${MASTER_ADDR:?address of the first node, the same on all}"
: "${NODE_RANK:?number of this node, from 0 on}"
DATA_ROOT=$(realpath -m -- "$DATA_ROOT")
OUTPUT=$(realpath -m -- "$OUTPUT")
export MASTER_ADDR NODE_RANK MASTER_PORT="${MASTER_PORT:-29500}"
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec python run.py with data_root="$DATA_ROOT" num_gpus=8 num_nodes=4 task_mlm_itm whole_word_masking=True \
    step200k per_gpu_batchsize=64 log_dir="$OUTPUT" resume_from=auto "$@"
