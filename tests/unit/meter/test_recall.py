"""Retrieval scores of METER are those of a full pass for every pair, whatever is computed once.

Source: docs/official/meter.md §7.1.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from meter.modules.encoders import Encoders
from meter.modules.meter_module import METERTransformerSS
from tests.parity.fixture import FIXTURES
from tests.tokenizers import tokenizer_from_files
from tests.unit.meter.small import IMAGE_SIZE, config_of, stirred, text_tower, vision_tower
from vlp.data.tokenizers import encode
from vlp.evaluation.recall import recalls
from vlp.sacred_dialect import retrieval
from vlp.sacred_dialect.task_metrics import epoch_wrapup

TOKENIZER = tokenizer_from_files(FIXTURES / "meter" / "tokenizer_bert_vocab.txt")
CAPTIONS = [" ".join(f"w{(7 * i + j) % 40}" for j in range(1 + 4 * i % 9)) for i in range(7)]
ROWS = [0, 0, 1, 2, 2, 2, 3]  # the image of each caption


class Images(list[dict[str, Any]]):
    """The evaluation split, one sample an image or a caption."""

    tables = SimpleNamespace(text=lambda i: CAPTIONS[i], rows=ROWS)


def retrieval_model(vision: str) -> METERTransformerSS:
    size = {"vocab_size": len(TOKENIZER), "max_text_len": 12}
    config = config_of(vision, ("itm", "irtr"), datasets=["coco"], **size)
    text = text_tower("bert", vocab_size=len(TOKENIZER), pad_token_id=TOKENIZER.pad_token_id)
    return stirred(METERTransformerSS(config, Encoders(vision_tower(vision), text)))


def attach(
    model: METERTransformerSS, images: torch.Tensor, testing: bool = True, world: int = 1, rank: int = 0
) -> list[Any]:
    """What the scores ask of a trainer; returns the list of the splits that were read."""
    asked: list[Any] = []

    def dataset(key: str, split: str, image_only: bool = False, false_draws: bool = True) -> Images:
        asked.append((key, split, false_draws))
        return Images({"image": [image]} for image in (images if image_only else images[ROWS]))

    datamodule = SimpleNamespace(dataset=dataset, tokenizer=TOKENIZER)
    model._trainer = SimpleNamespace(
        datamodule=datamodule, testing=testing, sanity_checking=False, world_size=world, global_rank=rank
    )  # type: ignore[assignment]
    return asked


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
    attach(model, images)
    with torch.no_grad():
        scores, caption_image = retrieval.retrieval_scores(model)
    expected = every_pair(model, images)
    assert torch.allclose(scores, expected, atol=2e-5)
    assert min(expected.std(dim=0).min(), expected.std(dim=1).min()) > 1e-3  # pairs differ both ways
    assert caption_image.tolist() == ROWS
    assert retrieval.compute_irtr_recall(model) == recalls(expected, torch.tensor(ROWS))


def test_ranks_share_the_images() -> None:
    """Each rank fills its own rows; the sum over ranks is the whole matrix."""
    model, images = retrieval_model("clip"), torch.randn(4, 3, 32, 32)
    parts = []
    for rank in range(3):
        attach(model, images, world=3, rank=rank)
        with torch.no_grad():
            parts.append(retrieval.retrieval_scores(model)[0])
        assert [i for i in range(4) if parts[-1][i].any()] == list(range(rank, 4, 3))
    assert torch.allclose(sum(parts), every_pair(model, images), atol=2e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("testing", [True, False])
def test_the_split_follows_the_stage_and_draws_nothing(testing: bool) -> None:
    model, images = retrieval_model("clip"), torch.randn(4, 3, 32, 32)
    asked = attach(model, images, testing)
    retrieval.compute_irtr_recall(model)
    assert asked == 2 * [("coco", "test" if testing else "val", False)]


def test_the_metric_has_both_directions() -> None:
    model, images = retrieval_model("clip"), torch.randn(4, 3, 32, 32)
    model.config["get_recall_metric"] = True
    attach(model, images)
    recalled = retrieval.compute_irtr_recall(model)
    assert 0 < recalled.ir_r1 != recalled.tr_r1 > 0
    found: dict[str, float] = {}
    accuracy: Any = model.get_submodule("val_itm_accuracy")
    accuracy.update(0.25)
    with patch.object(model, "log", lambda name, value, **_: found.update({name: float(value)})):
        epoch_wrapup(model)
    assert {name: found[f"recalls/{name}"] for name in recalled._fields} == recalled._asdict()
    assert found["val/the_metric"] == pytest.approx(0.25 + recalled.ir_r1 + recalled.tr_r1)


def test_the_sanity_check_ranks_nothing() -> None:
    """It would rank every pair before the first step of a run."""
    model = retrieval_model("clip")
    model.config["get_recall_metric"] = True
    attach(model, torch.randn(4, 3, 32, 32))
    found: list[str] = []
    with (
        patch.object(model.trainer, "sanity_checking", True),
        patch.object(model, "log", lambda name, value, **_: found.append(name)),
    ):
        epoch_wrapup(model)
    assert "val/the_metric" in found and not any(name.startswith("recalls/") for name in found)


def test_towers_run_once_per_image_and_per_caption() -> None:
    model, images = retrieval_model("clip"), torch.randn(4, 3, 32, 32)
    attach(model, images)
    seen: dict[str, int] = {"images": 0, "tokens": 0}

    def images_in(_: Any, args: tuple[Any, ...]) -> None:
        seen["images"] += len(args[0])

    def tokens_in(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen["tokens"] += int((kwargs["input_ids"] != TOKENIZER.pad_token_id).sum())

    model.vit_model.register_forward_pre_hook(images_in)
    model.text_transformer.get_submodule("embeddings").register_forward_pre_hook(tokens_in, with_kwargs=True)
    retrieval.compute_irtr_recall(model)
    tokens = sum(map(sum, encode(TOKENIZER, CAPTIONS, 12).masks))
    assert seen == {"images": 4, "tokens": tokens}
