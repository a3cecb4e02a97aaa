#!/usr/bin/env bash
# X-VLM, 16M: pre-training, on 1 GPU.
# Officially 24 GPUs. Nothing accumulates: a step has 128 pairs instead of 3072.
# Made by: python -m reproduce scripts. Further arguments go to Pretrain.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
OUTPUT=$(realpath -m -- "$OUTPUT")
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --standalone --nproc_per_node=1 Pretrain.py --config configs/Pretrain_XVLM_base_16m.yaml \
    --output_dir "$OUTPUT" regions.tokenized=False save_every_n_steps=1000 resume_from=auto "$@"
