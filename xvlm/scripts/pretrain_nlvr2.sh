#!/usr/bin/env bash
# X-VLM: what comes before fine-tuning for NLVR2, on 8 GPUs.
# GPUS in the environment is another number of GPUs.
# Made by: python -m reproduce scripts. Further arguments go to NLVR_pretrain.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
: "${CHECKPOINT:?checkpoint of a pre-training}"
OUTPUT=$(realpath -m -- "$OUTPUT")
CHECKPOINT=$(realpath -m -- "$CHECKPOINT")
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --standalone --nproc_per_node="${GPUS:-8}" NLVR_pretrain.py --config \
    configs/NLVR_pretrain_O1.yaml --output_dir "$OUTPUT" --checkpoint "$CHECKPOINT" resume_from=auto "$@"
