#!/usr/bin/env bash
# ALBEF with EPIC, 16M: pre-training, on 8 GPUs.
# Made by: python -m reproduce scripts. Further arguments go to Pretrain.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
: "${TEACHER:?checkpoint of a vanilla pre-training}"
: "${DATA_ROOT:?folder of the raw data sets with their images (docs/data.md)}"
OUTPUT=$(realpath -m -- "$OUTPUT")
TEACHER=$(realpath -m -- "$TEACHER")
DATA_ROOT=$(realpath -m -- "$DATA_ROOT")
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --standalone --nproc_per_node=8 Pretrain.py --config ./configs/Pretrain_16M_epic.yaml \
    --output_dir "$OUTPUT" teacher_path="$TEACHER" image_root="$DATA_ROOT" save_every_n_steps=1000 \
    resume_from=auto "$@"
