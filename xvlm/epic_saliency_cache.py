r"""Compute the teacher's saliency (Eq. 8) of every image-text pair once, for Pretrain.py to read.

The command line of the run, with the teacher and the folder to build, from this folder:
    torchrun --nproc_per_node=8 epic_saliency_cache.py --config configs/Pretrain_XVLM_base_4m_epic.yaml \
        fixed_views=True teacher_path=<TEACHER> saliency_cache=<FOLDER>
After a kill the same command goes on where it stopped. The run then needs fixed_views=True saliency_cache=<FOLDER> and
no teacher_path.
"""

from __future__ import annotations

from typing import Any

from vlp.yaml_dialect.start import start
from xvlm.config import COMMANDS


def main(config: dict[str, Any]) -> None:
    """Import the model only for a configuration that can run."""
    from epic_vlp.stream_cache import build_or_exit
    from xvlm.baseline import BASELINE

    build_or_exit(BASELINE, config)


if __name__ == "__main__":
    start(COMMANDS["Pretrain"], main)
