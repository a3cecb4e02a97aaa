"""Fixtures that lack a piece: what is left is compared, what is not is named, and nothing fails for it.

Every piece of every kind, each alone (about 15 minutes):

    python -m pytest -m slow tests/parity/test_lacking.py
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.fixture import FIXTURES, PLAIN, Fixture
from tests.parity.runner import Outcome, discover, modes, read, run
from tests.parity.test_parity import FULL_SIZE, size

Piece = tuple[str, ...]  # a key of the JSON, or a block and one in it

SLOW_ARRAYS = ("masking_", "meter.mask", "mask_")
BLOCKS = ("inputs", "choices", "arrays")
UNREAD = ("notes", "what", "upstream_commit")
# What a model, a dataset or a trajectory is made of: without it nothing can be compared.
NEEDED_BY_ALL = (
    *("keys", "arch", "weights", "checkpoint", "config", "inputs", "choices", "trajectory", "tolerances", "arrays"),
    *("image", "input_ids", "attention_mask", "text_ids", "text_masks", "text_atts", "patch_index", "region/*"),
    *(
        "image_atts",
        "idx_to_group_img",
        "mask_draw",
        "replace_draw",
        "labels",
        "vocab",
        "split",
        "item_index",
        "*.arrow",
    ),
    *("false_text_ids", "false_text_masks", "target_bbox", "k_test", "*_vocab", "*_merges", "table_copies"),
)
# Fixture, the piece that it lacks, and the outputs which need it by the formulas of docs/official, or which come from
# one call of the model with it.
LEFT_OUT: list[tuple[str, str, tuple[str, ...]]] = [
    ("albef/golden_tiny_pretrain", "labels", ("*.loss_mlm",)),
    ("albef/golden_tiny_pretrain", "neg_text_index", ("*.itm_logits", "*.loss_itm", "*.fusion_???")),
    ("albef/golden_tiny_retrieval", "neg_image_index", ("step?.itm_logits", "step?.loss_itm")),
    ("albef/golden_tiny_retrieval", "gradcam_block", ("gradcam.*",)),
    ("albef/golden_tiny_retrieval_eval", "captions_per_image", ("metric.*",)),
    ("albef/golden_tiny_trainsteps", "grad_norm_keys", ("grad_norm",)),
    ("albef/golden_tiny_nlvr_pretrain", "labels", ("loss",)),
    ("albef/golden_tiny_ve", "targets", ("loss_alpha0", "loss", "logits_m")),
    ("albef/golden_tiny_vqa", "candidate_ids", ("topk_*",)),
    ("meter/golden_tiny_vqa", "vqa_targets_value", ("vqa_loss", "vqa_score")),
    ("vilt/golden_collate", "word_order", ("text_ids_mlm", "text_labels_mlm")),
    ("vilt/golden_collate", "false_text_index", ("false_text_*",)),
    ("vilt/golden_collate", "false_image_index", ("false_image_*", "image", "image_shape")),
    ("vilt/golden_tiny_pretrain", "grad_norm_keys", ("grad_norms",)),
    ("xvlm/golden_tiny_region", "neg_image", ("itm_logits", "loss_itm")),
    ("xvlm/golden_tiny_region", "is_image", ("loss_bbox", "loss_giou")),
    ("xvlm/golden_tiny_region", "masked_ids", ("loss_mlm", "mlm_logits_masked")),
]


def without(path: Path, folder: Path, pieces: set[str], outputs: set[str]) -> Path:
    """A copy that lacks these inputs and choices, with their arrays, and these outputs."""
    meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    gone: set[str | None] = set(outputs)
    for block in ("inputs", "choices"):
        for name in pieces & (meta[block] or {}).keys():
            gone.add(meta[block].pop(name).get("array"))
    meta["arrays"] = {name: array for name, array in meta["arrays"].items() if name not in gone}
    return written(path, folder, meta, gone)


def written(path: Path, folder: Path, meta: dict[str, Any], gone: set[str | None]) -> Path:
    """The fixture `path` with another JSON and without some arrays."""
    copy = folder / path.name
    copy.write_text(json.dumps(meta), encoding="utf-8")
    if not gone:
        shutil.copy(path.with_suffix(".npz"), folder)
        return copy
    with np.load(path.with_suffix(".npz")) as file:
        np.savez(copy.with_suffix(".npz"), **{name: file[name] for name in file.files if name not in gone})
    return copy


def replayed(path: Path) -> Outcome:
    fixture, replay = read(path)
    assert replay is not None
    return run(fixture, replay, PLAIN)


def test_vilts_data_without_the_names_of_its_operations(tmp_path: Path) -> None:
    path = FIXTURES / "vilt/golden_data.json"
    slow = {name for name in Fixture(path).required(PLAIN) if name.startswith(SLOW_ARRAYS)}
    outcome = replayed(without(path, tmp_path, {"randaug_ops"}, slow))
    assert outcome.passed and outcome.lacks == ["randaug_ops"] and not outcome.left_out


def test_a_map_that_no_image_block_has(tmp_path: Path) -> None:
    """A block that the text encoder has and the image encoder, of depth 3, has not: no map by features is stored."""
    path = FIXTURES / "albef/golden_tiny_retrieval.json"
    maps = {name for name in Fixture(path).required(PLAIN) if name.startswith("gradcam.")}
    copy = without(path, tmp_path, set(), maps - {"gradcam.itm_logits"})
    with np.load(copy.with_suffix(".npz")) as file:
        stored = dict(file)
    assert Fixture(copy).arch["vision"]["depth"] == 3
    np.savez(copy.with_suffix(".npz"), **{**stored, "gradcam_block": np.array(3)})
    outcome = replayed(copy)
    assert outcome.passed and not outcome.left_out


@pytest.mark.parametrize(("name", "piece", "needing"), LEFT_OUT)
def test_what_does_not_need_a_piece_is_compared(
    tmp_path: Path, name: str, piece: str, needing: tuple[str, ...]
) -> None:
    path = FIXTURES / f"{name}.json"
    outcome = replayed(without(path, tmp_path, {piece}, set()))
    required = Fixture(path).required(PLAIN)
    needed = [output for output in required if any(fnmatchcase(output, pattern) for pattern in needing)]
    assert needed and outcome.passed and outcome.lacks
    assert outcome.left_out == needed and outcome.compared == len(required) - len(needed)


def kinds() -> Iterator[Any]:
    """The small fixtures, and of a kind that has none the full-size one."""
    fixtures = {path: Fixture(path) for path in discover([FIXTURES])}
    small = [path for path in fixtures if size(fixtures[path]) <= FULL_SIZE]
    known = {(fixtures[path].baseline, fixtures[path].replay) for path in small}
    for path, fixture in fixtures.items():
        if path in small or (fixture.baseline, fixture.replay) not in known:
            yield pytest.param(path, id=f"{fixture.baseline}-{fixture.name}")


def pieces(meta: dict[str, Any]) -> Iterator[Piece]:
    for block, content in meta.items():
        if block not in (*UNREAD, "baseline", "replay"):
            yield (block,)
            yield from ((block, name) for name in (content or {}) if block in BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize("path", kinds())
def test_no_lacking_piece_is_a_failure(tmp_path: Path, path: Path) -> None:
    whole, replay = read(path)
    assert replay is not None
    required = {mode: whole.required(mode) for mode in modes(whole, replay)}
    wrong = []
    for piece in pieces(json.loads(path.read_text(encoding="utf-8"))):
        fixture = Fixture(lacking(path, tmp_path, piece))
        for mode in modes(fixture, replay):
            outcome = run(fixture, replay, mode)
            own = [name for name in required[mode] if name in fixture.required(mode)]
            known = outcome.compared or any(fnmatchcase(piece[-1], pattern) for pattern in NEEDED_BY_ALL)
            named = outcome.lacks or not outcome.left_out
            if outcome.failures or not known or not named or not {*own} >= {*outcome.left_out}:
                wrong.append(f"{'.'.join(piece)} [{mode}]: {outcome}")
    assert not wrong, "\n".join(wrong)


def lacking(path: Path, folder: Path, piece: Piece) -> Path:
    """A copy without a piece and the array that it stands for; of slow arrays no copy has any."""
    meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    gone: set[str | None] = {name for name in meta["arrays"] if name.startswith(SLOW_ARRAYS) and name != piece[-1]}
    block = meta
    for name in piece[:-1]:
        block = block[name]
    entry = block.pop(piece[-1])
    if len(piece) == 2:
        gone.add(piece[1] if piece[0] == "arrays" else entry.get("array"))
    if "arrays" in meta:
        meta["arrays"] = {name: array for name, array in meta["arrays"].items() if name not in gone}
    return written(path, folder, meta, gone - {None})
