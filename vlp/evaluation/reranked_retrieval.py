"""Retrieval in two stages: similarities of features choose k candidates, the fusion encoder's match logit ranks them.

The official loops run every pair through the fusion layers with the image's keys and values computed anew, first the
candidates of every image, then those of every text. Here a pair that both directions ask for is scored once, and
image after image: its keys and values are computed once for a whole batch of texts that ask for it, texts have no
padding, and of the last layer the first token alone is computed.

Source: docs/official/albef.md §7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from vlp.data.errors import DataError
from vlp.distributed import sum_across_ranks
from vlp.evaluation.recall import recalls
from vlp.evaluation.score_blocks import ScoreBlocks, digest
from vlp.nn.cross_attention import Seen
from vlp.nn.fusion_bert import FusionEncoder
from vlp.nn.padding import Queries, QuerySubset, TokenPlan, UnpaddedLayout
from vlp.progress import CountProgress

TEXTS_PER_BATCH = 256
TOKENS_PER_BATCH = 8192  # of pairs that go through the fusion layers together
UNSCORED = -100.0  # of pairs that are not among the k candidates


class PairScorer(Protocol):
    """A model with features of both sides, and layers that fuse a text's states with an image."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    def text_states(self, ids: Tensor, layout: UnpaddedLayout) -> tuple[Tensor, Tensor]:
        """ids (C, n) -> states (T, d) of the valid tokens, normalised features (C, e)."""

    def image_states(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, S, S) -> states (B, N, d), normalised features (B, e)."""

    def match_scores(self, states: Tensor, layout: UnpaddedLayout, image: Tensor) -> Tensor:
        """P texts, states (T, d), all with one image, states (1, N, d) -> match logits (P,)."""


class RerankedScores(NamedTuple):
    """Match logits, -100 where a pair is not among its row's k candidates."""

    image_to_text: Tensor  # (N, M) float32
    text_to_image: Tensor  # (M, N)


class PackedTexts(NamedTuple):
    """The states of M texts without padding."""

    states: Tensor  # (T, d), text after text
    lengths: Tensor  # (M,) int64, on the CPU
    features: Tensor  # (M, e)

    def select(self, numbers: Tensor) -> tuple[Tensor, UnpaddedLayout]:
        """Some texts, numbers (P,) on the CPU, as one batch: their states and layout."""
        lengths = self.lengths[numbers]
        plan = TokenPlan.of(torch.arange(int(lengths.max())) < lengths[:, None])
        starts = (self.lengths.cumsum(0) - self.lengths)[numbers]
        index = starts[plan.row] + plan.place
        device = self.states.device
        return self.states.index_select(0, index.to(device)), UnpaddedLayout(move_data_to_device(plan, device))


class RerankedRetrieval:
    """An evaluation: every rank adds all texts and all images, and encodes and scores its slice of the images.

    The states of a slice are kept on the CPU, features and the score matrices on the model's device.
    """

    def __init__(
        self,
        model: PairScorer,
        images: int,
        texts: int,
        k_test: int,
        split: str,
        rank: int = 0,
        world: int = 1,
        blocks: ScoreBlocks | None = None,
    ) -> None:
        """
        Args:
            blocks: rows that an earlier evaluation has left, and those that this one leaves.

        Raises:
            DataError: there are fewer images or texts than ``k_test``.
        """
        check_k_test(k_test, images, texts, split)
        self.model, self.images, self.texts, self.k_test = model, images, texts, k_test
        self.rank, self.own = rank, rank_slice(images, rank, world)
        self.blocks = blocks or ScoreBlocks(None)
        self._given_texts: list[Tensor] = []
        self._image_digests: dict[int, str] = {}
        self._encoded_texts: list[tuple[Tensor, Tensor, Tensor]] = []
        self._image_states: dict[int, Tensor] = {}
        self._image_features: Tensor | None = None

    @torch.no_grad()
    def add_texts(self, ids: Tensor, mask: Tensor) -> None:
        """Encode the next C texts, ids (C, n) and mask (C, n) on the CPU."""
        layout = UnpaddedLayout(move_data_to_device(TokenPlan.of(mask), self.model.device))
        states, features = self.model.text_states(ids.to(self.model.device), layout)
        self._encoded_texts.append((states, mask.sum(dim=1), features))
        self._given_texts += [ids, mask]

    @torch.no_grad()
    def add_images(self, images: Tensor, numbers: Tensor) -> None:
        """Encode those of the images (B, 3, S, S) that are this rank's; numbers (B,) are their places in the data."""
        wanted = [i for i, number in enumerate(numbers.tolist()) if number in self.own]
        if self._image_features is None:
            self._image_features = torch.zeros(self.images, self._feature_width(), device=self.model.device)
        if not wanted:
            return
        states, features = self.model.image_states(images[wanted].to(self.model.device))
        own = numbers.cpu()[wanted]
        self._image_features[own.to(self.model.device)] = features.float()
        self._image_states.update(zip(own.tolist(), states.cpu(), strict=True))
        self._image_digests.update((int(number), digest([images[i]])) for i, number in zip(wanted, own, strict=True))

    def _feature_width(self) -> int:
        return self._encoded_texts[0][2].shape[1]

    @torch.no_grad()
    def scores(self) -> RerankedScores:
        """The scores of both directions, equal on every rank; every rank must call it."""
        states, lengths, features = (torch.cat(parts) for parts in zip(*self._encoded_texts, strict=True))
        assert self._image_features is not None
        texts = PackedTexts(states, lengths.cpu(), features.float())
        image_features = sum_across_ranks(self._image_features.clone())
        with torch.autocast(self.model.device.type, enabled=False):  # candidates are chosen by all digits
            similarities = image_features @ texts.features.T
        of_images, of_texts = self._candidates(similarities)
        scored = self._scored(texts, of_images | of_texts)
        scores = RerankedScores(self._matrix(scored, of_images), self._matrix(scored, of_texts).T)
        self.blocks.remove()
        return scores

    def _candidates(self, similarities: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities (N, M) -> (own, M) bool: this rank's images' candidates, and the texts that chose the image."""
        own = slice(self.own.start, self.own.stop)
        of_images = torch.zeros_like(similarities[own], dtype=torch.bool)
        of_images.scatter_(1, similarities[own].topk(self.k_test, dim=1).indices, True)
        of_texts = torch.zeros_like(similarities, dtype=torch.bool)
        of_texts.scatter_(0, similarities.topk(self.k_test, dim=0).indices, True)
        return of_images, of_texts[own]

    def _scored(self, texts: PackedTexts, wanted: Tensor) -> Tensor:
        """Match logits (own, M) where wanted (own, M), 0 elsewhere."""
        scores = torch.zeros(wanted.shape, device=self.model.device)
        self.blocks.begin(self._given_texts)
        progress = CountProgress("retrieval", "images", len(self.own), show=self.rank == 0)
        for row, (number, chosen) in enumerate(zip(self.own, wanted.cpu(), strict=True)):
            known = self.blocks.row(number, self._image_digests[number])
            if known is None or known[chosen].isnan().any():
                known = self._row(texts, number, chosen)
                self.blocks.add(number, self._image_digests[number], known)
            scores[row] = torch.where(wanted[row], known.to(scores.device), 0.0)
            progress.advance()
        return scores

    def _row(self, texts: PackedTexts, number: int, chosen: Tensor) -> Tensor:
        """Match logits (M,) of an image with the texts chosen (M,), NaN elsewhere."""
        row = torch.full(chosen.shape, torch.nan, device=self.model.device)
        image = self._image_states[number].to(self.model.device)[None]
        for batch in batches(chosen.nonzero()[:, 0], texts.lengths):
            row[batch.to(row.device)] = self.model.match_scores(*texts.select(batch), image).float()
        return row

    def _matrix(self, scored: Tensor, chosen: Tensor) -> Tensor:
        """The whole matrix (N, M) of all ranks from this rank's rows (own, M)."""
        matrix = torch.zeros(self.images, scored.shape[1], device=scored.device)
        matrix[self.own.start : self.own.stop] = torch.where(chosen, scored, UNSCORED)
        return sum_across_ranks(matrix)


def fused_first_tokens(encoder: FusionEncoder, states: Tensor, layout: UnpaddedLayout, image: Tensor) -> Tensor:
    """P texts, states below the fusion layers, all with one image (1, N, c) -> token 0 of each pair, (P, d)."""
    read = QuerySubset(layout, Queries.first(layout.mask))
    return encoder.fuse(states, layout, image, Seen(rounds=len(layout.mask)), read)


def batches(numbers: Tensor, lengths: Tensor) -> Iterator[Tensor]:
    """Texts ``numbers`` (P,) in batches of alike lengths, which have about ``TOKENS_PER_BATCH`` tokens each."""
    numbers = numbers[lengths[numbers].argsort(stable=True)]
    if len(numbers):
        number_of_batch = (lengths[numbers].cumsum(0) - 1) // TOKENS_PER_BATCH
        yield from numbers.split(number_of_batch.unique_consecutive(return_counts=True)[1].tolist())


def rank_slice(count: int, rank: int, world: int) -> range:
    """The images of a rank: count // world + 1 each, what is left for the last ones; all of them if it is alone."""
    size = count // world + 1
    return range(min(rank * size, count), min((rank + 1) * size, count))


def check_k_test(k_test: int, images: int, texts: int, split: str) -> None:
    """
    Raises:
        DataError: there are fewer images or texts than ``k_test``.
    """
    if k_test > min(images, texts):
        counts = f"the split {split!r} has {images} images and {texts} texts"
        raise DataError(f"k_test={k_test}: {counts}; set k_test to {min(images, texts)} or less")


def official_metrics(scores: RerankedScores, text_image: Tensor) -> dict[str, float]:
    """``txt_r1`` … ``r_mean`` in percent; txt = texts found by images, img = images found by texts.

    Among equal scores the lower index ranks first: recall at a k above ``k_test`` reaches unscored pairs, which all
    tie. The official order of ties depends on the machine.

    Args:
        text_image: (M,) the number of each text's image.

    Raises:
        ValueError: a score is NaN, or the shapes do not fit.
    """
    of_texts, of_images = recalls(scores.image_to_text, text_image), recalls(scores.text_to_image.T, text_image)
    txt = [100 * r for r in (of_texts.tr_r1, of_texts.tr_r5, of_texts.tr_r10)]
    img = [100 * r for r in (of_images.ir_r1, of_images.ir_r5, of_images.ir_r10)]
    txt_mean, img_mean = sum(txt) / 3, sum(img) / 3
    return {
        **dict(zip(("txt_r1", "txt_r5", "txt_r10"), txt, strict=True)),
        "txt_r_mean": txt_mean,
        **dict(zip(("img_r1", "img_r5", "img_r10"), img, strict=True)),
        "img_r_mean": img_mean,
        "r_mean": (txt_mean + img_mean) / 2,
    }
