"""Which Arrow tables each dataset key reads (docs/official/meter.md §3.2), in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlp.data.arrow.manifest import Manifest
from vlp.data.errors import DataError

Split = Literal["train", "val", "test"]
EvalSplit = Literal["test", "val"]
Kind = Literal["caption", "vqa", "nlvr2", "snli"]
SHARD = "{i}"


@dataclass(frozen=True)
class DatasetSpec:
    """One dataset key: its tables per split and how its text column is read.

    A table name that holds ``{i}`` stands for numbered shards. The official code expects exactly 31 of gcc and 9 of
    sbu; here the manifest says how many there are, since that depends on how many images could be downloaded.
    ``karpathy_val`` names the table that ``eval_split="val"`` evaluates on.
    """

    key: str
    kind: Kind
    text_column: str
    train: tuple[str, ...]
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    karpathy_val: str | None = None

    @property
    def dedupe(self) -> bool:
        """Whether a text that an image has twice counts once."""
        return self.kind == "caption"

    def tables(self, split: Split, eval_split: EvalSplit = "test") -> tuple[str, ...]:
        """Return the table names of ``split``; shards are still written ``{i}``.

        ``eval_split="val"`` makes both the val and the test loader of coco and f30k read the Karpathy val split, and
        takes that split out of Flickr30k's training set. The official choice is "test".
        """
        if split not in ("train", "val", "test"):
            raise ValueError(f"split must be train, val or test, not {split!r}")
        if eval_split not in ("test", "val"):
            raise ValueError(f"eval_split must be test or val, not {eval_split!r}")
        if eval_split == "test" or self.karpathy_val is None:
            return {"train": self.train, "val": self.val, "test": self.test}[split]
        held_out = self.karpathy_val
        return tuple(name for name in self.train if name != held_out) if split == "train" else (held_out,)


_COCO, _F30K = "coco_caption_karpathy_", "f30k_caption_karpathy_"
_COCO_TEST, _F30K_TEST = (_COCO + "test",), (_F30K + "test",)
_COCO_TRAIN, _F30K_TRAIN = (_COCO + "train", _COCO + "restval"), (_F30K + "train", _F30K + "val")
_NLVR2_EVAL, _SNLI_EVAL = ("nlvr2_dev", "nlvr2_test1"), ("snli_dev", "snli_test")

_ALL = (
    DatasetSpec("coco", "caption", "caption", _COCO_TRAIN, _COCO_TEST, _COCO_TEST, karpathy_val=_COCO + "val"),
    DatasetSpec("f30k", "caption", "caption", _F30K_TRAIN, _F30K_TEST, _F30K_TEST, karpathy_val=_F30K + "val"),
    DatasetSpec("vg", "caption", "caption", ("vg",)),
    DatasetSpec("gcc", "caption", "caption", ("conceptual_caption_train_{i}",)),
    DatasetSpec("sbu", "caption", "caption", ("sbu_{i}",)),
    DatasetSpec("cc12m", "caption", "caption", ("cc12m_{i}",)),
    DatasetSpec("vqa", "vqa", "questions", ("vqav2_train", "vqav2_val"), ("vqav2_val",), ("vqav2_test",)),
    DatasetSpec("nlvr2", "nlvr2", "questions", ("nlvr2_train",), _NLVR2_EVAL, _NLVR2_EVAL),
    DatasetSpec("snli", "snli", "sentences", ("snli_train",), _SNLI_EVAL, _SNLI_EVAL),
)
SPECS: dict[str, DatasetSpec] = {spec.key: spec for spec in _ALL}


def get_spec(key: str, specs: Mapping[str, DatasetSpec] = SPECS) -> DatasetSpec:
    """Return the entry of ``key`` in ``specs``; an unknown key raises a ValueError that lists the known ones."""
    if key not in specs:
        raise ValueError(f"unknown dataset key {key!r}; known keys: {', '.join(specs)}")
    return specs[key]


def table_files(
    spec: DatasetSpec, split: Split, data_root: str | Path, eval_split: EvalSplit = "test"
) -> list[tuple[str, Path]]:
    """Resolve the tables of a split to ``(name, file)`` pairs, in reading order.

    Raises:
        DataError: a table or a shard is missing, or a conversion was interrupted; the message names the files and
            the command that writes them.
    """
    root = Path(data_root)
    patterns = spec.tables(split, eval_split)
    if not patterns:
        return []
    if not root.is_dir():
        raise DataError(f"data_root {root} is not a directory; convert the raw data first: {_command(spec, root)}")
    manifest = Manifest.read(root, spec.key)
    if manifest is not None and not manifest.complete:
        raise DataError(
            f"the conversion of {spec.key} into {root} was interrupted; finish it with: {_command(spec, root)} --resume"
        )
    names = [name for pattern in patterns for name in _expand(pattern, spec, root, manifest)]
    missing = [str(root / f"{name}.arrow") for name in names if not (root / f"{name}.arrow").exists()]
    if missing:
        raise DataError(
            f"dataset {spec.key!r} ({split}) lacks {len(missing)} of {len(names)} tables: {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}; write them with: {_command(spec, root)}"
        )
    return [(name, root / f"{name}.arrow") for name in names]


def shard_numbers(pattern: str, root: Path) -> list[int]:
    """Return the numbers of the shards of ``pattern`` (a name with ``{i}``) that exist in ``root``, ascending."""
    before, after = pattern.split(SHARD)
    name = re.compile(re.escape(before) + r"(\d+)" + re.escape(after) + r"\.arrow")
    return sorted(int(match[1]) for path in root.iterdir() if (match := name.fullmatch(path.name)))


def _expand(pattern: str, spec: DatasetSpec, root: Path, manifest: Manifest | None) -> list[str]:
    if SHARD not in pattern:
        return [pattern]
    if manifest is not None:
        return [pattern.format(i=i) for i in range(manifest.shards.get(pattern, 1))]
    numbers = shard_numbers(pattern, root)
    # Tables of the official converters have no manifest: a gap is a lost file, the end of the numbering is trusted.
    return [pattern.format(i=i) for i in range(max(numbers, default=0) + 1)]


def _command(spec: DatasetSpec, root: Path) -> str:
    return f"python -m vlp.data.arrow {spec.key} --root RAW --output {root}"
