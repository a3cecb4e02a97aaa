"""Processes that wait for others: until all are there, or to a limit and by name."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import TorchElasticEnvironment

from tests.launch.launcher import address
from vlp.progress import Pace
from vlp.training import rendezvous
from vlp.training.rendezvous import _ranks


def joined(log: Path, environment: Mapping[str, str]) -> NoReturn:
    """What a process does: meet, and add up with the others."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    os.environ.update(environment)
    rendezvous.Pace = partial(Pace, 1.0)  # type: ignore[assignment,misc]
    try:
        with rendezvous.met(TorchElasticEnvironment()):
            dist.init_process_group("gloo")
        total = torch.tensor([dist.get_rank() + 1])
        dist.all_reduce(total)
        print("sum", total.item())
        dist.barrier()
    except rendezvous.MissingRanks as error:
        print(f"error: {error}", flush=True)
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def together(ranks: list[int], count: int, folder: Path, meet: Mapping[str, str]) -> list[tuple[int, str]]:
    """Processes of these ranks out of ``count`` at the same time -> statuses and what they say."""
    shared = {**meet, "WORLD_SIZE": str(count), "VLP_WAIT_FOR_RANKS": "4"}
    logs = [folder / f"{number}.txt" for number in range(len(ranks))]
    fork = multiprocessing.get_context("fork")
    started = [
        fork.Process(target=joined, args=(log, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
        for rank, log in zip(ranks, logs, strict=True)
    ]
    for process in reversed(started):
        process.start()
    for process in started:
        process.join(60)
    return [(process.exitcode or 0, log.read_text()) for process, log in zip(started, logs, strict=True)]


def test_processes_that_have_all_come_make_one_group(tmp_path: Path) -> None:
    for status, output in together([0, 1], 2, tmp_path, address()):
        assert status == 0 and "sum 3" in output and "error" not in output, output


def test_those_that_came_name_those_that_did_not(tmp_path: Path) -> None:
    meet = address()
    place = f"127.0.0.1:{meet['MASTER_PORT']}"
    for rank, (status, output) in enumerate(together([0, 1], 5, tmp_path, meet)):
        assert status == 1 and "Traceback" not in output, output
        assert f"rank {rank} waits for ranks 2-4 of 5, which are to come to {place} … " in output
        waited = f"error: rank {rank} waited 4 s for ranks 2-4 of 5"
        lost = f"error: rank {rank} lost rank 0 at {place} while waiting for ranks 2-4 of 5"
        assert waited in output or (rank and lost in output), output


def test_without_the_first_the_others_wait_for_it(tmp_path: Path) -> None:
    meet = address()
    ((status, output),) = together([1], 2, tmp_path, meet)
    assert status == 1 and f"waited 4 s for rank 0 at 127.0.0.1:{meet['MASTER_PORT']}" in output, output


def test_two_processes_of_one_rank(tmp_path: Path) -> None:
    ended = together([0, 1, 1], 3, tmp_path, address())
    assert [status for status, _ in ended] == [1, 1, 1]
    assert any("two processes are rank 1 of 3" in output for _, output in ended)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(taken.getsockname()[1])}
        ((status, output),) = together([0], 2, tmp_path, meet)
    assert status == 1 and "Traceback" not in output
    assert f"error: processes cannot meet at 127.0.0.1:{meet['MASTER_PORT']}" in output, output


@pytest.mark.parametrize(
    ("missing", "said"),
    [([3], "rank 3"), ([0, 2], "ranks 0, 2"), ([1, 4, 5, 6], "ranks 1, 4-6"), ([0, 1], "ranks 0-1")],
)
def test_names_of_ranks(missing: list[int], said: str) -> None:
    assert _ranks(missing) == said
