"""What differs between the configuration of a checkpoint's run and that of a run that is to go on from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

DATA = "data"  # in resume_anyway: the content of the files that a run reads
Reading = Callable[[Any], Any] | None  # how a key's value is read for the comparison; None: it may differ


class Change(NamedTuple):
    """A key's value in the checkpoint's run, and in this one."""

    was: Any
    now: Any


def changed(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    defaults: Mapping[str, Any],
    readings: Mapping[str, Reading],
) -> dict[str, Change]:
    """Every key whose value differs; keys of blocks are dotted.

    A side that lacks a key has its default. Where there is no default, the key is of another version, and to lack it is
    to have it off (None, False, 0 or empty). Of a block that is off (``enabled`` is False) nothing else counts.
    """
    free = {key for key, reading in readings.items() if reading is None}
    theirs, ours, known = ({k: v for k, v in side.items() if k not in free} for side in (before, now, defaults))
    first, second, default = flat(theirs), flat(ours), flat(known, whole=True)
    found = {}
    for key in dict.fromkeys([*second, *first]):
        change = Change(first.get(key, default.get(key)), second.get(key, default.get(key)))
        read = readings.get(key) or _as_it_stands
        if read(change.was) != read(change.now) and (key in default or change.was or change.now):
            found[key] = change
    return found


def flat(config: Mapping[str, Any], prefix: str = "", whole: bool = False) -> dict[str, Any]:
    """The values of all blocks under dotted keys; ``whole``: of blocks that are off, too."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            off = value.get("enabled") is False and not whole
            values |= flat({"enabled": False} if off else value, f"{prefix}{key}.", whole)
        else:
            values[prefix + key] = value
    return values


def keys_and_blocks(config: Mapping[str, Any]) -> set[str]:
    """The names of all keys, dotted within blocks, and of the blocks."""
    names = flat(config, whole=True)
    return {".".join(name.split(".")[: depth + 1]) for name in names for depth in range(name.count(".") + 1)}


def file_names(value: Any) -> list[str]:
    """A reading for keys that name data files, one or several: where they lie does not count."""
    return [Path(str(each)).name for each in (value if isinstance(value, list | tuple) else [value])]


def check_changes(
    path: str,
    changes: Mapping[str, Change],
    fixed: Collection[str],
    anyway: Collection[str],
    weights_key: str = "load_path",
) -> None:
    """Refuse changes that the user has not asked for.

    Args:
        path: the checkpoint.
        fixed: keys that no run can change.
        weights_key: the key that names a file of weights.
        anyway: keys that may change, and blocks all of whose keys may (``resume_anyway``).

    Raises:
        ValueError: naming each key with both values.
    """
    if stuck := {key: change for key, change in changes.items() if key in fixed}:
        raise ValueError(
            f"resume_from={path}: {described(stuck)}; a run keeps its {' and '.join(stuck)}. Give the old value, or "
            f"start a new run from the weights: {weights_key}={path}"
        )
    if refused := {key: change for key, change in changes.items() if not _listed(key, anyway)}:
        raise ValueError(
            f"resume_from={path}: its run had another configuration: {described(refused)}. Give the old values, or "
            f"go on with the new ones: resume_anyway={','.join(refused)}"
        )


def described(changes: Mapping[str, Change]) -> str:
    """``learning_rate was 0.001, is 0.01; batch_size was 16, is 32``."""
    return "; ".join(f"{key} was {was!r}, is {now!r}" for key, (was, now) in changes.items())


def _listed(key: str, names: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _as_it_stands(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
