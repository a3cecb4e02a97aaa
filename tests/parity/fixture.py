"""One parity fixture: `<name>.json`, which says everything, beside `<name>.npz`, which holds the arrays.

`Fixture` reads it, resolves its inputs and choices, finds the key tables that it names, fills models by golden.py's
rule and compares computed arrays with the stored ones. Key tables and other named files lie beside the fixture or in
the default place, `tests/parity/fixtures/<baseline>/`.

Source: docs/official/meter.md §11.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.parity import golden
from tests.parity.comparison import Comparison, compare, parse_slice

FIXTURES = Path(__file__).parent / "fixtures"

PLAIN = "plain"  # the plain computation: every array is compared
TRAINING_PATH = "training path"  # the training step with all savings on: what an exact implementation must keep
TRAINING_LEVELS = frozenset({"loss", "gradient", "logit", "trajectory"})

KeyTable = dict[str, tuple[tuple[int, ...], str]]  # official key -> (shape, dtype), in official order


class FixtureError(Exception):
    """A fixture that contradicts itself, or a model that contradicts a fixture's key table."""


class Lacking(KeyError):
    """A fixture was asked for a piece that it does not have, which this names."""


class Given(dict[str, Any]):
    """A block of a fixture, or what is made of it: raises Lacking where it lacks what it is asked for.

    Args:
        names: what the fixture calls the pieces that have other names here.
        block: what stands before the name of a piece, such as "config.".
    """

    def __init__(
        self, pieces: Mapping[str, Any] = MappingProxyType({}), names: Mapping[str, str] | None = None, block: str = ""
    ) -> None:
        super().__init__(pieces)
        self._names, self._block = names or {}, block

    def __missing__(self, name: str) -> Any:
        raise Lacking(self._block + self._names.get(name, name))

    @classmethod
    def renamed(cls, pieces: Mapping[str, Any], names: Mapping[str, str], make: Callable[[Any], Any]) -> Given:
        """What ``make`` makes of the pieces that are there; ``names`` are ours -> the fixture's."""
        return cls({ours: make(pieces[theirs]) for ours, theirs in names.items() if theirs in pieces}, names)

    def also(self, **pieces: Any) -> Given:
        """A copy with these pieces."""
        return Given({**self, **pieces}, self._names, self._block)

    def whole(self) -> Given:
        """Itself, where no piece is lacking that it has a name for."""
        for name in self._names:
            self[name]
        return self


def _blocks(value: Any, block: str) -> Any:
    """A value of the JSON with every object in it as a block."""
    if isinstance(value, dict):
        return Given({name: _blocks(part, f"{block}{name}.") for name, part in value.items()}, block=block)
    return [_blocks(part, block) for part in value] if isinstance(value, list) else value


class Fixture:
    """A fixture read from its JSON file. What it does not have is found out where it is asked for: Lacking is raised.

    Attributes:
        name, path: the file's stem and the JSON's path.
        baseline, replay: which replay runs it, e.g. ("meter", "pretrain").
        arch, config: the model's sizes and the official configuration keys ({} where the JSON has null).
        weights, trajectory: these blocks of the JSON ({} where null).
        tolerances: pattern -> {"atol", "rtol"}.
        arrays: name -> description (role, level, what, slice, and args or of where given) of every array in the npz.
        lacks: what is lacking whatever is asked for: what the fixture is, arrays that JSON and npz do not share.

    Raises:
        FixtureError: the npz is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        self._meta: Given = _blocks(json.loads(path.read_text(encoding="utf-8")), "")
        self.baseline, self.replay = (str(self._meta.get(name)) for name in ("baseline", "replay"))
        self.arch, self.config, self.tolerances = (self._block(name) for name in ("arch", "config", "tolerances"))
        self.weights, self.trajectory = self._block("weights"), self._block("trajectory")
        self._stored, described = self._read_npz(), self._block("arrays")
        self.arrays = Given({name: array for name, array in described.items() if name in self._stored})
        self.lacks = [name for name in ("baseline", "replay", "arrays") if name not in self._meta]
        if described:
            self.lacks += [f"arrays.{name}" for name in sorted(self._stored.keys() ^ described.keys())]

    def _block(self, name: str) -> Given:
        """A block of the JSON, empty where it is null or lacking."""
        return self._meta.get(name) or Given(block=f"{name}.")

    def _read_npz(self) -> Given:
        npz = self.path.with_suffix(".npz")
        if not npz.is_file():
            raise FixtureError(f"{npz} is missing: {self.path.name} describes it")
        with np.load(npz, allow_pickle=False) as file:
            return Given({name: file[name] for name in file.files})

    @property
    def checkpoint(self) -> Given:
        """The block of the model that is saved and loaded first, {} where null; a fixture must say which."""
        return self._meta["checkpoint"] or Given(block="checkpoint.")

    # ---- what goes in ----

    @cached_property
    def inputs(self) -> Given:
        """Every input by name: an array, golden.py's image or tokens, or the value as it stands in the JSON."""
        return self._resolved("inputs")

    @cached_property
    def choices(self) -> Given:
        """Every random draw to force, by name, resolved like `inputs`."""
        return self._resolved("choices")

    @property
    def given(self) -> Given:
        """The inputs and the choices."""
        return Given(self.inputs | self.choices)

    def _resolved(self, block: str) -> Given:
        """The pieces of a block; one whose array is not stored is absent."""
        made = Given()
        for name, entry in self._block(block).items():
            with suppress(Lacking):
                made[name] = self._resolve(entry)
        return made

    def _resolve(self, entry: Mapping[str, Any]) -> Any:
        if "array" in entry:
            return self._stored[entry["array"]]
        if "make" not in entry:
            return entry["value"]
        limits = {key: entry[key] for key in ("low", "high") if entry.get(key) is not None}
        if entry["make"] == "image":
            made = golden.image(entry["name"], *entry["shape"])
        elif entry["make"] == "tokens":
            made = golden.tokens(entry["name"], *entry["shape"], **limits)
        else:
            raise FixtureError(f"{self.path}: golden.py makes no {entry['make']!r}")
        if entry.get("zero_outside") is not None:  # (height, width) of each sample
            for sample, (height, width) in zip(made, entry["zero_outside"], strict=True):
                sample[..., height:, :] = 0
                sample[..., :, width:] = 0
        for cut, value in (entry.get("set") or {}).items():  # slice -> value
            made[parse_slice(cut)] = value
        return made

    def file(self, name: str) -> Path:
        """The file `name` beside the fixture, else in the default place of its baseline.

        Raises:
            Lacking: it is in neither.
        """
        places = (self.path.parent, FIXTURES / self.baseline)
        for place in places:
            if (place / name).is_file():
                return place / name
        raise Lacking(f"{name} (which is neither in {places[0]} nor in {places[1]})")

    # ---- the model ----

    def key_table(self, checkpoint: bool = False) -> KeyTable:
        """The exact state dict of the fixture's model, or of the model that its checkpoint is made from."""
        named = (self.checkpoint if checkpoint else self._meta)["keys"]
        if named is None:
            raise Lacking("keys")
        return golden.keys(self.file(named))

    def fill(
        self,
        state: Mapping[str, Tensor],
        *,
        checkpoint: bool = False,
        prefixes: Sequence[str] = ("",),
        name: str = "{key}",
    ) -> dict[str, Tensor]:
        """A model's state dict with its float tensors filled by golden.py's rule.

        Args:
            state: what the model built, under official keys: exactly the key table (keys, order, shapes, types).
            checkpoint: fill the model that the checkpoint is made from, not the fixture's own.
            prefixes: only keys that start with one of these (`then_fill` of a checkpoint); default all.
            name: what the rule is applied to instead of the bare key (`then_fill_name`).

        Returns:
            A new dict in official order; what the rule or `weights.skip` leaves out is `state`'s own tensor.

        Raises:
            FixtureError: the state dict is not that of the key table.
        """
        table = self.key_table(checkpoint)
        check_keys(state, table)
        weights = self.checkpoint["weights"] if checkpoint else self.weights
        if weights["rule"] != "golden":
            raise FixtureError(f"{self.path}: weights.rule {weights['rule']!r} is not known, only 'golden'")
        filled = dict(state)
        for key, (shape, dtype) in table.items():
            wanted = dtype.startswith("float") and shape and key.startswith(tuple(prefixes))
            if wanted and not any(fnmatchcase(key, pattern) for pattern in weights["skip"]):
                filled[key] = torch.from_numpy(golden.tensor(name.format(key=key), shape))
        for alias, source in self._tied(weights).items():
            filled[alias] = filled[source]
        return filled

    def _tied(self, weights: Mapping[str, Any]) -> dict[str, str]:
        if weights["tied"] is None:
            return {}
        with self.file(weights["tied"]).open(newline="", encoding="utf-8") as handle:
            return {row["key"]: row["takes_value_of"] for row in csv.DictReader(handle, delimiter="\t")}

    # ---- what comes out ----

    def stores(self, *beginnings: str) -> bool:
        """Whether the name of an output begins so."""
        return any(name.startswith(beginnings) for name in self.required(PLAIN))

    def required(self, mode: str) -> list[str]:
        """Names of the output arrays that a replay must produce in `mode`, in the JSON's order."""
        outputs = [name for name, array in self.arrays.items() if array["role"] == "output"]
        if mode == PLAIN:
            return outputs
        return [name for name in outputs if self.arrays[name]["level"] in TRAINING_LEVELS]

    def stored(self, name: str) -> np.ndarray:
        """The stored array `name`."""
        return self._stored[name]

    def compare(self, name: str, computed: np.ndarray | Tensor) -> Comparison:
        """Compare the full computed array with the stored one, after its `slice`, under its tolerance."""
        if isinstance(computed, Tensor):
            computed = computed.detach().cpu().numpy()
        return compare(name, computed, self._stored[name], self.arrays[name]["slice"], self.tolerances)


def check_keys(state: Mapping[str, Tensor], table: KeyTable) -> None:
    """Check that a state dict is exactly a key table: keys, their order, shapes and types.

    Raises:
        FixtureError: names what is missing, unexpected, out of order or of another shape or type.
    """
    if missing := [key for key in table if key not in state]:
        raise FixtureError(f"the model lacks {len(missing)} keys of the table, first {missing[0]}")
    if unexpected := [key for key in state if key not in table]:
        raise FixtureError(f"the model has {len(unexpected)} keys that the table lacks, first {unexpected[0]}")
    for ours, official in zip(state, table, strict=True):
        if ours != official:
            raise FixtureError(f"key order: {ours} stands where the table has {official}")
    for key, (shape, dtype) in table.items():
        got = (tuple(state[key].shape), str(state[key].dtype).removeprefix("torch."))
        if got != (shape, dtype.removeprefix("buffer_")):
            raise FixtureError(f"{key} is {got[1]} {got[0]}, in the table {dtype} {shape}")
