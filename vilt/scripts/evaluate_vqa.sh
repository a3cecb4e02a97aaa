#!/usr/bin/env bash
# ViLT: score VQAv2 after fine-tuning, on 8 GPUs.
# GPUS in the environment is another number of GPUs.
# Made by: python -m reproduce scripts. Further arguments go to run.py.
set -euo pipefail
: "${DATA_ROOT:?folder of the Arrow tables (docs/data.md)}"
: "${CHECKPOINT:?checkpoint that finetune_vqa.sh leaves}"
: "${OUTPUT:?folder of the run}"
DATA_ROOT=$(realpath -m -- "$DATA_ROOT")
CHECKPOINT=$(realpath -m -- "$CHECKPOINT")
OUTPUT=$(realpath -m -- "$OUTPUT")
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec python run.py with data_root="$DATA_ROOT" num_gpus="${GPUS:-8}" num_nodes=1 task_finetune_vqa_randaug \
    per_gpu_batchsize=64 load_path="$CHECKPOINT" precision=32 test_only=True log_dir="$OUTPUT" "$@"
