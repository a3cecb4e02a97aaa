"""Collation, against the plain rules of docs/official/meter.md §3.5; the parity fixture golden_arrow has whole ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from tests.parity.fixture import FIXTURES
from tests.tokenizers import tokenizer_from_files
from vlp.data.collate import Collator, pad_images, view_sizes
from vlp.data.draws import SampleKey
from vlp.data.masking import MlmMasker

FOLDER = FIXTURES / "meter"
LENGTH = 24


@pytest.fixture(scope="module")
def collate() -> Collator:
    tokenizer = tokenizer_from_files(FOLDER / "tokenizer_roberta_vocab.json", FOLDER / "tokenizer_roberta_merges.txt")
    return Collator(tokenizer, MlmMasker(tokenizer, 0.15, whole_word=False), LENGTH)


def sample(index: int, epoch: int = 0, **extra: Any) -> dict[str, Any]:
    text = {"text": f"the caption {index}", "false_text_0": f"other {index}"}
    return {**text, "img_index": index, **extra, "_key": SampleKey(0, epoch, "coco", index)}


def test_images_are_padded_to_the_largest_of_all_keys() -> None:
    def view(height: int, width: int) -> list[torch.Tensor]:
        return [torch.full((3, height, width), 2.0), torch.full((3, 2, 2), 3.0)]

    padded = pad_images({"image": [view(4, 6), view(5, 2)], "false_image_0": [view(1, 1), view(3, 9)]})
    assert {key: [tuple(x.shape) for x in views] for key, views in padded.items()} == {
        key: [(2, 3, 5, 9)] * 2 for key in ("image", "false_image_0")
    }
    first = padded["image"][0]
    assert first[0, :, :4, :6].eq(2).all() and first[1, :, :5, :2].eq(2).all()
    assert first.sum() == 2 * 3 * (4 * 6 + 5 * 2)
    assert padded["false_image_0"][1].sum() == 3 * 3 * (2 * 2) * 2


def test_sizes_are_those_inside_the_padding_and_move_with_the_batch(collate: Collator) -> None:
    """Also where pixels are zero, as the official marker of padding cannot tell."""
    images = {"image_0": [(4, 6), (5, 2)], "image_1": [(1, 1), (3, 9)]}
    views: list[dict[str, Any]] = [
        {key: [torch.zeros(3, *sizes[i]), torch.zeros(3, 2, 2)] for key, sizes in images.items()} for i in range(2)
    ]
    samples = [sample(i, **view) for i, view in enumerate(views)]
    batch = move_data_to_device(collate(samples), torch.device("meta"))
    assert {key: (x.dtype, x.shape, x.device.type) for key, x in batch["sizes"].items()} == {
        key: (torch.int64, (2, 2), "meta") for key in images
    }
    found = view_sizes({key: [each[key] for each in samples] for key in images})
    assert {key: [tuple(row) for row in x.tolist()] for key, x in found.items()} == images


def test_a_mask_belongs_to_its_sample_and_epoch(collate: Collator) -> None:
    together = collate([sample(i) for i in range(6)])
    for i in (4, 1):
        alone = collate([sample(i)])
        for key in ("text_ids_mlm", "text_labels_mlm", "false_text_0_ids_mlm"):
            assert torch.equal(alone[key][0], together[key][i])
    later = collate([sample(i, epoch=1) for i in range(6)])
    assert torch.equal(later["text_ids"], together["text_ids"])
    assert not torch.equal(later["text_labels_mlm"], together["text_labels_mlm"])
    assert not torch.equal(together["text_labels_mlm"] != -100, together["false_text_0_labels_mlm"] != -100)


def test_pads_of_true_and_false_texts(collate: Collator) -> None:
    batch = collate([sample(7), sample(12345)])
    pad = collate.tokenizer.pad_token_id
    for name, filler in (("text", pad), ("false_text_0", 0)):
        ids, masks, labels = (batch[f"{name}_{kind}"] for kind in ("ids", "masks", "labels"))
        lengths = masks.sum(1).tolist()
        assert lengths[0] < lengths[1] < LENGTH
        for row, length in enumerate(lengths):
            assert masks[row, :length].all() and not masks[row, length:].any()
            assert ids[row, length:].eq(filler).all() and ids[row, length - 1] == collate.tokenizer.sep_token_id
            assert batch[f"{name}_ids_mlm"][row, length:].eq(pad).all()
            assert batch[f"{name}_labels_mlm"][row, length:].eq(-100).all()
            texts = batch[name][row]
            assert ids[row, :length].tolist() == collate.tokenizer(texts)["input_ids"]
        assert labels.eq(-100).all() and labels.dtype == ids.dtype == masks.dtype == torch.int64


def test_selected_tokens_keep_their_id_as_label(collate: Collator) -> None:
    batch = collate([sample(i) for i in range(40)])
    chosen = batch["text_labels_mlm"] != -100
    assert chosen.any() and torch.equal(batch["text_labels_mlm"][chosen], batch["text_ids"][chosen])
    assert torch.equal(batch["text_ids_mlm"][~chosen], batch["text_ids"][~chosen])


def test_keys_are_the_union_and_the_private_one_goes(collate: Collator) -> None:
    batch = collate([sample(0, iid=5), sample(1)])
    assert batch["iid"] == [5, None] and batch["img_index"] == [0, 1] and "_key" not in batch
    with pytest.raises(ValueError, match="'false_text_1'"):
        collate([sample(0, false_text_1="x"), sample(1)])


def test_a_batch_of_images_alone(collate: Collator) -> None:
    views = [torch.zeros(3, 4, 4)]
    batch = collate([{"image": views, "img_index": 0, "_key": SampleKey(0, 0, "coco", 0)}])
    assert set(batch) == {"image", "img_index", "dataset", "sizes"}


def test_a_length_without_room_for_a_word_is_refused(collate: Collator) -> None:
    with pytest.raises(ValueError, match=r"max_text_len=2: .* at least 3"):
        Collator(collate.tokenizer, collate.masker, 2)
