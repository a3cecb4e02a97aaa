"""k_test re-ranking against a brute force over single pairs, in one process and in two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from vlp.data.errors import DataError
from vlp.evaluation import reranked_retrieval
from vlp.evaluation.reranked_retrieval import (
    UNSCORED,
    RerankedRetrieval,
    RerankedScores,
    batches,
    fused_first_tokens,
    official_metrics,
    rank_slice,
)
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.padding import PaddedLayout, UnpaddedLayout

SIZES: dict[str, Any] = {
    **{"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32},
    **{"layer_norm_eps": 1e-12, "vocab_size": 50, "max_position_embeddings": 16, "type_vocab_size": 2},
    **{"pad_token_id": 0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    **{"initializer_range": 0.3, "fusion_layer": 2, "encoder_width": 12},
}
IMAGES, TEXTS, K = 7, 11, 4


class Scorer(nn.Module):
    """A fusion encoder over images that are their own tokens (N, 12)."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = FusionEncoder(SIZES), nn.Linear(16, 2)
        self.text_proj, self.image_proj = nn.Linear(16, 8), nn.Linear(12, 8)

    def text_states(self, ids: Tensor, layout: UnpaddedLayout) -> tuple[Tensor, Tensor]:
        states = self.encoder.text(ids, layout)
        return states, F.normalize(self.text_proj(layout.first(states)[:, 0]), dim=-1)

    def image_states(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, F.normalize(self.image_proj(images[:, 0]), dim=-1)

    def match_scores(self, states: Tensor, layout: UnpaddedLayout, image: Tensor) -> Tensor:
        return self.head(fused_first_tokens(self.encoder, states, layout, image))[:, 1]


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Images (7, 5, 12), ids (11, 6) and their mask."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(IMAGES, 5, 12, generator=generator)
    lengths = torch.tensor([6, 2, 3, 4, 6, 5, 2, 2, 3, 6, 4])
    mask = (torch.arange(6) < lengths[:, None]).long()
    return images, torch.randint(5, 50, (TEXTS, 6), generator=generator) * mask, mask


@torch.no_grad()
def evaluate(rank: int = 0, world: int = 1) -> RerankedScores:
    images, ids, mask = data()
    evaluation = RerankedRetrieval(Scorer(), IMAGES, TEXTS, K, "val", rank, world)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 11)):
        evaluation.add_texts(ids[rows], mask[rows])
    for numbers in torch.randperm(IMAGES, generator=torch.Generator().manual_seed(2)).split(3):
        evaluation.add_images(images[numbers], numbers)
    return evaluation.scores()


@torch.no_grad()
def brute_force() -> RerankedScores:
    """One pair after the other, padded, all tokens of all layers."""
    images, ids, mask = data()
    model, layout = Scorer(), PaddedLayout(mask.bool())
    features = F.normalize(model.text_proj(model.encoder.text(ids, layout)[:, 0]), dim=-1)
    similar = (F.normalize(model.image_proj(images[:, 0]), dim=-1) @ features.T).tolist()
    logits = [[0.0] * TEXTS for _ in range(IMAGES)]
    for i in range(IMAGES):
        for t in range(TEXTS):
            one = PaddedLayout(mask[t : t + 1].bool())
            states = model.encoder(ids[t : t + 1], one, images[i : i + 1], Seen())
            logits[i][t] = float(model.head(states[:, 0])[0, 1])
    i2t, t2i = torch.full((IMAGES, TEXTS), UNSCORED), torch.full((TEXTS, IMAGES), UNSCORED)
    for i in range(IMAGES):
        for t in sorted(range(TEXTS), key=lambda t: -similar[i][t])[:K]:
            i2t[i, t] = logits[i][t]
    for t in range(TEXTS):
        for i in sorted(range(IMAGES), key=lambda i: -similar[i][t])[:K]:
            t2i[t, i] = logits[i][t]
    return RerankedScores(i2t, t2i)


def assert_equal(got: RerankedScores, expected: RerankedScores) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours == UNSCORED, theirs == UNSCORED)
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 10, 8192])
def test_scores_are_those_of_single_pairs(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reranked_retrieval, "TOKENS_PER_BATCH", tokens)
    expected = brute_force()
    spread = expected.image_to_text[expected.image_to_text > UNSCORED]
    assert spread.std() > 0.1 and ((expected.image_to_text > UNSCORED).sum(1) == K).all()
    assert_equal(evaluate(), expected)


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(tuple(evaluate(rank, world=2)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_scores_of_one(tmp_path: Path) -> None:
    mp.start_processes(work, (str(tmp_path),), nprocs=2, start_method="spawn")
    first, second = (RerankedScores(*torch.load(tmp_path / f"{rank}.pt", weights_only=True)) for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert_equal(first, evaluate())


@pytest.mark.parametrize(("count", "world"), [(1000, 8), (5, 4), (1, 3), (12, 1), (8, 4)])
def test_every_image_is_in_one_slice(count: int, world: int) -> None:
    slices = [rank_slice(count, rank, world) for rank in range(world)]
    assert [number for one in slices for number in one] == list(range(count))
    assert max(map(len, slices)) <= count // world + 1


def test_batches_hold_every_text_once_and_alike_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reranked_retrieval, "TOKENS_PER_BATCH", 20)
    lengths = torch.randint(2, 12, (40,), generator=torch.Generator().manual_seed(3))
    chosen = torch.arange(0, 40, 2)
    parts = list(batches(chosen, lengths))
    assert sorted(torch.cat(parts).tolist()) == chosen.tolist() and len(parts) > 3
    assert all(int(lengths[part].sum()) < 20 + 12 for part in parts)
    in_order = lengths[torch.cat(parts)]
    assert torch.equal(in_order, in_order.sort().values)
    assert not list(batches(chosen[:0], lengths))


@pytest.mark.parametrize(("images", "texts"), [(3, 20), (20, 3)])
def test_too_few_candidates_are_refused(images: int, texts: int) -> None:
    message = f"k_test=4: the split 'val' has {images} images and {texts} texts; set k_test to 3 or less"
    with pytest.raises(DataError, match=message):
        RerankedRetrieval(Scorer(), images, texts, K, "val")


def test_metrics_by_counting() -> None:
    """Image 0 has texts 0 and 1, image 1 has text 2."""
    i2t = torch.tensor([[1.0, UNSCORED, 2.0], [5.0, UNSCORED, 4.0]])
    t2i = torch.tensor([[1.0, 5.0], [3.0, UNSCORED], [2.0, 4.0]])
    got = official_metrics(RerankedScores(i2t, t2i), torch.tensor([0, 0, 1]))
    assert list(got) == [
        *("txt_r1", "txt_r5", "txt_r10", "txt_r_mean"),
        *("img_r1", "img_r5", "img_r10", "img_r_mean", "r_mean"),
    ]
    assert got["txt_r1"] == 0 and got["txt_r5"] == 100 and got["txt_r_mean"] == pytest.approx(200 / 3)
    assert got["img_r1"] == pytest.approx(200 / 3) and got["img_r10"] == 100
    assert got["img_r_mean"] == pytest.approx((200 / 3 + 200) / 3)
    assert got["r_mean"] == pytest.approx((got["txt_r_mean"] + got["img_r_mean"]) / 2)
