#!/usr/bin/env bash
# ALBEF with EPIC, 4M: pre-training, on 1 GPU.
# Officially 8 GPUs. Nothing accumulates: a step has 64 pairs instead of 512.
# Made by: python -m reproduce scripts. Further arguments go to Pretrain.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
: "${TEACHER:?checkpoint of a vanilla pre-training}"
: "${DATA_ROOT:?folder of the raw data sets with their images (docs/data.md)}"
OUTPUT=$(realpath -m -- "$OUTPUT")
TEACHER=$(realpath -m -- "$TEACHER")
DATA_ROOT=$(realpath -m -- "$DATA_ROOT")
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --standalone --nproc_per_node=1 Pretrain.py --config ./configs/Pretrain_4M_epic.yaml \
    --output_dir "$OUTPUT" teacher_path="$TEACHER" image_root="$DATA_ROOT" save_every_n_steps=1000 \
    resume_from=auto "$@"
