"""Retrieval scores of METER are those of a full pass for every pair, whatever is computed once.

Source: docs/official/meter.md §7.1.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from meter.modules.encoders import Encoders
from meter.modules.meter_module import METERTransformerSS
from tests.parity.fixture import FIXTURES
from tests.tokenizers import tokenizer_from_files
from tests.unit.meter.small import IMAGE_SIZE, batch_of, config_of, stirred, text_tower, vision_tower
from vlp.data.tokenizers import encode
from vlp.evaluation.recall import recalls
from vlp.evaluation.retrieval import score_pairs
from vlp.sacred_dialect import retrieval

TOKENIZER = tokenizer_from_files(FIXTURES / "meter" / "tokenizer_bert_vocab.txt")
CAPTIONS = [" ".join(f"w{(7 * i + j) % 40}" for j in range(1 + 4 * i % 9)) for i in range(7)]
ROWS = [0, 0, 1, 2, 2, 2, 3]  # the image of each caption


class Images(list[dict[str, Any]]):
    """The evaluation split, one sample an image or a caption."""

    tables = SimpleNamespace(text=lambda i: CAPTIONS[i], rows=ROWS)


def retrieval_model(vision: str) -> METERTransformerSS:
    torch.manual_seed(0)
    size = {"vocab_size": len(TOKENIZER), "max_text_len": 12}
    config = config_of(vision, ("itm", "irtr"), datasets=["coco"], get_recall_metric=True, **size)
    text = text_tower("bert", vocab_size=len(TOKENIZER), pad_token_id=TOKENIZER.pad_token_id)
    return stirred(METERTransformerSS(config, Encoders(vision_tower(vision), text)))


class Retrieval(L.LightningDataModule):
    """An evaluation of ``images``, with the splits that it was asked for."""

    tokenizer = TOKENIZER

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.images, self.asked = images, list[Any]()

    def dataset(self, key: str, split: str, image_only: bool = False, false_draws: bool = True) -> Images:
        self.asked.append((key, split, false_draws))
        return Images({"image": [image]} for image in (self.images if image_only else self.images[ROWS]))

    def val_dataloader(self) -> DataLoader[Any]:
        batches: Any = [batch_of([5, 4, 6], image_size=self.images.shape[-1], false_texts=2)]
        return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)

    train_dataloader = test_dataloader = val_dataloader


def run_of(**options: Any) -> L.Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(accelerator="cpu", max_epochs=1, **quiet, **options)  # type: ignore[arg-type]


def evaluated(model: METERTransformerSS, data: Retrieval, testing: bool = True) -> dict[str, float]:
    """What an evaluation run logs."""
    trainer = run_of()
    (found,) = (trainer.test if testing else trainer.validate)(model, datamodule=data, verbose=False)
    return dict(found)


def scores_of(model: METERTransformerSS, images: torch.Tensor, rank: int = 0, world: int = 1) -> torch.Tensor:
    captions = retrieval.tokenized(TOKENIZER, CAPTIONS, 12)
    return score_pairs(model, images.__getitem__, len(images), captions, rank, world)


@torch.no_grad()
def every_pair(model: METERTransformerSS, images: torch.Tensor) -> torch.Tensor:
    """One full pass per image and caption, padded to the full length, as the official loop runs it."""
    encoded = encode(TOKENIZER, CAPTIONS, 12)
    scores = torch.zeros(len(images), len(CAPTIONS))
    for i, image in enumerate(images):
        for j in range(len(CAPTIONS)):
            ids, masks = torch.tensor(encoded.ids[j : j + 1]), torch.tensor(encoded.masks[j : j + 1])
            batch = {"text_ids": ids, "text_masks": masks, "text_labels": ids, "image": [image[None]]}
            scores[i, j] = model.rank_output(model.infer(batch)["cls_feats"])[0, 0]
    return scores


@pytest.mark.parametrize("caption_batch", [64, 3])
@pytest.mark.parametrize("vision", ["clip", "swin"])
def test_scores_are_those_of_every_pair(vision: str, caption_batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "CAPTION_BATCH", caption_batch)
    model, images = retrieval_model(vision), torch.randn(4, 3, *2 * [IMAGE_SIZE[vision]])
    expected = every_pair(model, images)
    assert torch.allclose(scores_of(model, images), expected, atol=2e-5)
    assert min(expected.std(dim=0).min(), expected.std(dim=1).min()) > 1e-3  # pairs differ both ways
    found = evaluated(model, Retrieval(images))
    for name, value in recalls(expected, torch.tensor(ROWS))._asdict().items():
        assert found[f"recalls/{name}"] == pytest.approx(value), name


def test_ranks_share_the_images() -> None:
    """Each rank fills its own rows; the sum over ranks is the whole matrix."""
    model, images = retrieval_model("clip"), torch.randn(4, 3, 32, 32)
    parts = [scores_of(model, images, rank, world=3) for rank in range(3)]
    for rank, part in enumerate(parts):
        assert [i for i in range(4) if part[i].any()] == list(range(rank, 4, 3))
    assert torch.allclose(sum(parts), every_pair(model, images), atol=2e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("testing", [True, False])
def test_the_split_follows_the_stage_and_draws_nothing(testing: bool) -> None:
    data = Retrieval(torch.randn(4, 3, 32, 32))
    evaluated(retrieval_model("clip"), data, testing)
    assert data.asked == 2 * [("coco", "test" if testing else "val", False)]


def test_the_metric_has_both_directions() -> None:
    found = evaluated(retrieval_model("clip"), Retrieval(torch.randn(4, 3, 32, 32)))
    recalled = (found["recalls/ir_r1"], found["recalls/tr_r1"])
    assert 0 < recalled[0] != recalled[1] > 0
    assert found["val/the_metric"] == pytest.approx(found["itm/val/accuracy_epoch"] + sum(recalled))


def test_the_sanity_check_ranks_nothing() -> None:
    """It would rank every pair before the first step of a run."""
    data = Retrieval(torch.randn(4, 3, 32, 32))
    run_of(num_sanity_val_steps=1).fit(retrieval_model("clip").train(), datamodule=data)
    assert data.asked == 2 * [("coco", "val", False)]  # by the validation at the epoch's end


def test_towers_run_once_per_image_and_per_caption() -> None:
    model, images = retrieval_model("clip"), torch.randn(4, 3, 32, 32)
    seen: dict[str, int] = {"images": 0, "tokens": 0}

    def images_in(_: Any, args: tuple[Any, ...]) -> None:
        seen["images"] += len(args[0])

    def tokens_in(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen["tokens"] += int((kwargs["input_ids"] != TOKENIZER.pad_token_id).sum())

    model.vit_model.register_forward_pre_hook(images_in)
    model.text_transformer.get_submodule("embeddings").register_forward_pre_hook(tokens_in, with_kwargs=True)
    scores_of(model, images)
    tokens = sum(map(sum, encode(TOKENIZER, CAPTIONS, 12).masks))
    assert seen == {"images": 4, "tokens": tokens}
