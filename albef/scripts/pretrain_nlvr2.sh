#!/usr/bin/env bash
# ALBEF: what comes before fine-tuning for NLVR2, on 8 GPUs.
# GPUS in the environment is another number of GPUs.
# Made by: python -m reproduce scripts. Further arguments go to Pretrain_nlvr.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
: "${CHECKPOINT:?checkpoint of a pre-training}"
: "${DATA_ROOT:?folder of the raw data sets with their images (docs/data.md)}"
OUTPUT=$(realpath -m -- "$OUTPUT")
CHECKPOINT=$(realpath -m -- "$CHECKPOINT")
DATA_ROOT=$(realpath -m -- "$DATA_ROOT")
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --standalone --nproc_per_node="${GPUS:-8}" Pretrain_nlvr.py --config \
    ./configs/NLVR_pretrain.yaml --output_dir "$OUTPUT" --checkpoint "$CHECKPOINT" image_root="$DATA_ROOT" \
    resume_from=auto "$@"
