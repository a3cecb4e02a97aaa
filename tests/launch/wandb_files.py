"""What a run with ``logger=wandb`` wrote in wandb's offline mode."""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.launch.launcher import ENVIRONMENT

BLOCK, WHOLE, LAST = 1 << 15, 1, 4  # of LevelDB's log format


class Logged(NamedTuple):
    """An offline run: its id, its configuration and its lines of metrics."""

    id: str
    config: dict[str, Any]
    lines: list[dict[str, float]]


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the launchers' runs log into files."""
    monkeypatch.setitem(ENVIRONMENT, "WANDB_MODE", "offline")


def logged(directory: Path) -> Logged:
    """The one offline run below a run's folder."""
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")

    (path,) = directory.glob("wandb/offline-run-*/run-*.wandb")
    config: dict[str, Any] = {}
    lines = []
    for data in records(path.read_bytes()):
        record = messages.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "config":
            config |= {each.key: json.loads(each.value_json) for each in record.config.update if each.key}
        elif record.WhichOneof("record_type") == "history":
            items = record.history.item
            lines.append({each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in items})
    return Logged(path.stem.removeprefix("run-"), config, lines)


def records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format behind a header of 7 bytes."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        if (left := BLOCK - place % BLOCK) < 7:  # the rest of a block is filled up
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""


def check_same_numbers(directory: Path, logged: Logged) -> None:
    """Every line of metrics.jsonl is there, and nothing else."""
    theirs = [
        {key: value for key, value in line.items() if not key.startswith("_") and key != "trainer/global_step"}
        | {"step": line["trainer/global_step"]}
        for line in logged.lines
    ]
    ours = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert len(ours) > 2
    for line, other in zip(ours, theirs, strict=True):
        assert other == pytest.approx(line)
