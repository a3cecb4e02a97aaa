"""The demo's settings: its sizes and its baseline, from the command line."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from demo.baseline import DemoBaseline
from demo.baselines import BASELINES
from demo.sizes import REPOSITORY, Sizes
from vlp.arguments import whole

PAIRS = 64  # of a step
RUNS = ("vanilla", "epic")  # in order: the first is the second's teacher


class Settings(Sizes):
    """The demo's sizes, and what they ask of its baseline."""

    @property
    def about(self) -> DemoBaseline:
        """What is particular to the baseline's demo."""
        return BASELINES[self.baseline]

    def run_directory(self, name: str) -> Path:
        """Where the launcher writes the pre-training run ``name``."""
        return self.about.run_directory(self, name)

    def checkpoint(self, name: str) -> Path:
        """The last checkpoint of the pre-training run ``name``."""
        return self.about.checkpoint(self, name)


def parse(argv: Sequence[str]) -> Settings:
    """Settings from flags: every field is ``--field-name``."""
    parser = argparse.ArgumentParser("python -m demo", description="Pre-train a baseline without and with EPIC.")
    parser.add_argument("--baseline", choices=list(BASELINES), default="meter", help="default meter")
    parser.add_argument("--output", type=Path, help=f"default runs/{_of_each('output')}, by baseline")
    parser.add_argument("--steps", type=whole(1), help=f"default {_of_each('steps')}, by baseline")
    parser.add_argument("--encoder-steps", type=whole(1), help=f"default {_of_each('encoder_steps')}, by baseline")
    parser.add_argument("--processes", type=whole(1), help="default a GPU each, at most two; on CPUs by baseline")
    parser.add_argument("--batch", type=whole(2), help=f"of a process; default {PAIRS} over all processes")
    for field in dataclasses.fields(Settings):
        if field.default is dataclasses.MISSING:  # decided by baseline
            continue
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=whole(0 if field.name == "seed" else 1),
            default=field.default,
            help=f"default {field.default}",
        )
    chosen = vars(parser.parse_args(argv))
    about = BASELINES[chosen["baseline"]]
    output = chosen["output"] or REPOSITORY / "runs" / about.output
    if output.exists() and not output.is_dir():
        parser.error(f"--output {output} is no folder")
    processes = chosen["processes"] or min(2, torch.cuda.device_count()) or about.processes
    # Matching needs a pair with its image and one with another.
    batch = chosen["batch"] or max(2, PAIRS // processes)
    by_baseline = {
        **{"steps": chosen["steps"] or about.steps, "encoder_steps": chosen["encoder_steps"] or about.encoder_steps},
        **{"batch": batch, "processes": processes},
    }
    return Settings(**{**chosen, **by_baseline, "output": output.resolve()})


def _of_each(name: str) -> str:
    """The values of a default of every baseline, in words."""
    return " or ".join(str(getattr(baseline, name)) for baseline in BASELINES.values())
