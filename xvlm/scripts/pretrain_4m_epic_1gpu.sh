#!/usr/bin/env bash
# X-VLM with EPIC, 4M: pre-training, on 1 GPU.
# Officially 8 GPUs. Nothing accumulates: a step has 128 pairs instead of 1024.
# Made by: python -m reproduce scripts. Further arguments go to Pretrain.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
: "${TEACHER:?checkpoint of a vanilla pre-training}"
OUTPUT=$(realpath -m -- "$OUTPUT")
TEACHER=$(realpath -m -- "$TEACHER")
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --standalone --nproc_per_node=1 Pretrain.py --config configs/Pretrain_XVLM_base_4m_epic.yaml \
    --output_dir "$OUTPUT" teacher_path="$TEACHER" save_every_n_steps=1000 resume_from=auto "$@"
