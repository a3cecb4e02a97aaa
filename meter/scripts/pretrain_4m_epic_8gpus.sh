#!/usr/bin/env bash
# METER with EPIC, 4M: pre-training, on 8 GPUs.
# Officially 32 GPUs. Gradients are accumulated to as many pairs per step.
# Made by: python -m reproduce scripts. Further arguments go to run.py.
set -euo pipefail
: "${DATA_ROOT:?folder of the Arrow tables (docs/data.md)}"
: "${TEACHER:?checkpoint of a vanilla pre-training}"
: "${OUTPUT:?folder of the run}"
DATA_ROOT=$(realpath -m -- "$DATA_ROOT")
TEACHER=$(realpath -m -- "$TEACHER")
OUTPUT=$(realpath -m -- "$OUTPUT")
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec python run.py with data_root="$DATA_ROOT" num_gpus=8 num_nodes=1 task_mlm_itm_clip_bert \
    per_gpu_batchsize=32 clip16 text_roberta image_size=288 epic teacher_path="$TEACHER" log_dir="$OUTPUT" \
    resume_from=auto "$@"
