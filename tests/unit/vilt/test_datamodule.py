"""Which tables ViLT's data module opens, and what it refuses of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meter.datamodules.multitask_datamodule import MTDataModule as MeterDataModule
from tests.unit.data.raw import image_bytes, write_table
from vilt.datamodules.multitask_datamodule import MTDataModule
from vlp.data.arrow.registry import Split
from vlp.data.arrow.writer import vqa_schema
from vlp.data.errors import DataError

COCO, F30K = "coco_caption_karpathy_", "f30k_caption_karpathy_"
NLVR2_EVAL = ("nlvr2_dev", "nlvr2_test1")
GCC_VAL = ("conceptual_caption_val_0",)
# docs/official/vilt.md §3.3: train, val, test; "{i}" are numbered shards.
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "coco": ((COCO + "train", COCO + "restval"), (COCO + "test",), (COCO + "test",)),
    "f30k": ((F30K + "train", F30K + "val"), (F30K + "test",), (F30K + "test",)),
    "gcc": (("conceptual_caption_train_{i}",), GCC_VAL, GCC_VAL),
    "sbu": (("sbu_{i}",), (), ()),
    "vg": (("vg",), (), ()),
    "cc12m": (("cc12m_{i}",), (), ()),
    "vqa": (("vqav2_train", "vqav2_trainable_val"), ("vqav2_rest_val",), ("vqav2_test",)),
    "nlvr2": (("nlvr2_train",), NLVR2_EVAL, NLVR2_EVAL),
}
CONFIG: dict[str, Any] = {
    "datasets": ["vqa"],
    "loss_names": {"vqa": 1, "itm": 0},
    "seed": 0,
    "train_transform_keys": ["pixelbert_randaug"],
    "val_transform_keys": ["pixelbert"],
    "image_size": 64,
    "patch_size": 32,
    "max_image_len": 200,
    "draw_false_image": 0,
    "draw_false_text": 0,
    "image_only": False,
    "eval_split": "test",
    "max_text_len": 12,
    "mlm_prob": 0.15,
    "whole_word_masking": False,
    "vqav2_label_size": 3,
    "test_only": False,
    "per_gpu_batchsize": 2,
    "num_workers": 0,
}


def test_tables_of_every_key_and_split() -> None:
    splits: tuple[Split, ...] = ("train", "val", "test")
    found = {key: tuple(spec.tables(split) for split in splits) for key, spec in MTDataModule.specs.items()}
    assert found == TABLES and all(spec.key == key for key, spec in MTDataModule.specs.items())


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    """A configuration whose tables and tokenizer lie in ``folder``."""
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "?"]))
    return {**CONFIG, "data_root": str(folder), "tokenizer": str(folder), "vocab_size": 7, **changes}


def write_vqa(folder: Path, name: str, *answers: tuple[str, int]) -> None:
    """A table of one image for each answer; without one, of an unlabelled image."""
    split = name.rpartition("_")[2]
    rows = [
        {
            "image": image_bytes(label, size=(120, 60)),
            "questions": ["what?"],
            "answers": [[answer]],
            "answer_labels": [[label]],
            "answer_scores": [[1.0]],
            "image_id": label,
            "question_id": [label],
            "split": split,
        }
        for answer, label in answers
    ]
    unlabelled: dict[str, list[Any]] = {key: [] for key in ("answers", "answer_labels", "answer_scores")}
    rows = rows or [{"image": image_bytes(), "questions": ["what?"], "image_id": 9, "question_id": [9], **unlabelled}]
    write_table(folder / f"{name}.arrow", rows, vqa_schema(bool(answers)))


def test_vqa_holds_out_the_last_val_images(tmp_path: Path) -> None:
    write_vqa(tmp_path, "vqav2_train", ("yes", 0))
    write_vqa(tmp_path, "vqav2_trainable_val", ("no", 1), ("yes", 0))
    write_vqa(tmp_path, "vqav2_rest_val", ("two", 2))
    write_vqa(tmp_path, "vqav2_test")
    data = MTDataModule(config(tmp_path))
    assert {split: len(samples) for split, samples in data.sets.items()} == {"train": 3, "val": 1, "test": 1}
    assert data.has_validation
    # Also those that the held-out questions alone have, as the official submission reads train and val.
    assert data.answers == {0: "yes", 1: "no", 2: "two"}
    batch = next(iter(data.train_dataloader()))
    assert batch["sizes"]["image"].tolist() == [[32, 96]] * 2 and batch["image"][0].shape == (2, 3, 32, 96)
    assert MTDataModule(config(tmp_path, test_only=True)).answers == data.answers
    with pytest.raises(DataError, match=r"vqav2_val\.arrow"):
        MeterDataModule(config(tmp_path))


def test_an_answer_beyond_the_head_is_named(tmp_path: Path) -> None:
    for name in ("vqav2_train", "vqav2_trainable_val"):
        write_vqa(tmp_path, name, ("yes", 0))
    write_vqa(tmp_path, "vqav2_rest_val", ("two", 3))
    write_vqa(tmp_path, "vqav2_test")
    with pytest.raises(ValueError, match="vqav2_label_size=3, but the tables of vqa have 4"):
        MTDataModule(config(tmp_path))


def test_an_image_too_thin_for_a_patch_is_named(tmp_path: Path) -> None:
    write_vqa(tmp_path, "vqav2_train", ("yes", 0))
    write_vqa(tmp_path, "vqav2_trainable_val", ("no", 1))
    write_vqa(tmp_path, "vqav2_rest_val", ("two", 2))
    write_vqa(tmp_path, "vqav2_test")
    data = MTDataModule(config(tmp_path, image_size=32))
    with pytest.raises(DataError, match=r"vqav2_rest_val\.arrow, row 0 .*120x60.* too thin for image_size=32.*pad or"):
        data.sets["val"][0]
