"""Run as ``python run.py with data_root=<ARROW_ROOT> task_pretrain per_gpu_batchsize=8``."""

from tests.fifth.config import FifthKeys, ex
from vlp.sacred_dialect.command_line import launch


def main(config: dict) -> None:
    from tests.fifth.baseline import BASELINE  # only for a configuration that can run
    from vlp.sacred_dialect.run import run

    run(BASELINE, config)


if __name__ == "__main__":
    launch(ex, FifthKeys, main)
