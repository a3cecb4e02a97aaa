#!/usr/bin/env bash
# X-VLM, 4M: pre-training, on 8 GPUs.
# Made by: python -m reproduce scripts. Further arguments go to Pretrain.py.
set -euo pipefail
: "${OUTPUT:?folder of the run}"
OUTPUT=$(realpath -m -- "$OUTPUT")
cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/.."
exec torchrun --standalone --nproc_per_node=8 Pretrain.py --config configs/Pretrain_XVLM_base_4m.yaml \
    --output_dir "$OUTPUT" save_every_n_steps=1000 resume_from=auto "$@"
