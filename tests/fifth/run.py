"""Run as ``python run.py with data_root=<ARROW_ROOT> task_pretrain per_gpu_batchsize=8``."""

from tests.fifth.baseline import BASELINE
from vlp.sacred_dialect.run import launch

if __name__ == "__main__":
    launch(BASELINE)
