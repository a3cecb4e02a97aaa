"""What the runs of a baseline share: its teacher, vanilla to the end, and how many steps EPIC's compute pays for."""

from __future__ import annotations

import os
from pathlib import Path

from reproduce.miniature import data
from reproduce.miniature.flops import flops_per_step
from reproduce.miniature.places import Bench, waiting_lock
from reproduce.miniature.results import write_file
from reproduce.miniature.runs import Planned, clear, make_run
from reproduce.miniature.settings import TEACHER, VARIANTS
from vlp.files import read_json, write_json

TEACHERS = "teachers"  # folder of their files below that of the results, and of their checkpoints


def teacher_of(bench: Bench) -> Path:
    """The teacher's checkpoint; made if it is not there, waited for where another process makes it."""
    planned = Planned(bench, TEACHER, bench.miniature.teacher_seed, bench.settings.teacher_steps)
    path = bench.work / TEACHERS / f"{planned.name}_{planned.config_hash}.ckpt"
    with waiting_lock(path.with_suffix(".lock")):
        if not path.exists():
            print(f"      {planned.name}: {planned.steps} steps, the teacher of all runs", flush=True)
            data.prepare(bench)
            run = make_run(planned, only_last=True)
            write_file(bench.results / TEACHERS / f"{planned.name}.json", run)
            (last,) = (planned.folder / "points").glob("*.ckpt")
            os.replace(last, path)
            clear(planned.folder)
    return path


def steps_of_equal_compute(bench: Bench) -> int:
    """Steps of vanilla that cost what EPIC's budget costs, by the FLOPs of a step."""
    teacher = teacher_of(bench)
    counted = teacher.with_suffix(".flops.json")
    with waiting_lock(counted.with_suffix(".lock")):
        if not counted.exists():
            epic = {**VARIANTS["epic"], "append_sep": None}  # that of the baseline
            flops = {
                "vanilla": flops_per_step(bench.name, teacher),
                "epic": flops_per_step(bench.name, teacher, epic, teacher),
            }
            write_json(counted, flops)
    flops = read_json(counted)
    return round(bench.settings.steps * flops["epic"] / flops["vanilla"])
