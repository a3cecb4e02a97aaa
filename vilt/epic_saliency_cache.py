"""Compute the teacher's saliency (Eq. 8) of every training and validation pair once, for run.py to read.

The command line of the run, with the teacher and the folder to build:
    python epic_saliency_cache.py with data_root=<ARROW_ROOT> num_gpus=8 num_nodes=1 task_mlm_itm \
        whole_word_masking=True step200k per_gpu_batchsize=64 epic teacher_path=<TEACHER> saliency_cache=<FOLDER>
Processes and nodes are those of run.py, with a folder that all of them see. After a kill the same command goes on where
it stopped. The run then needs saliency_cache=<FOLDER> and no teacher_path.
"""

from __future__ import annotations

from typing import Any

from vilt.config import ViltKeys, ex
from vlp.sacred_dialect.command_line import launch


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from epic_vlp.cache_build import build_or_exit
    from vilt.baseline import BASELINE

    build_or_exit(BASELINE, config)


if __name__ == "__main__":
    launch(ex, ViltKeys, main)
