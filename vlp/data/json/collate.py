"""Samples of JSON lists -> batches.

Source: docs/official/albef.md §3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import default_collate
from transformers import PreTrainedTokenizerBase

from vlp.data.collate import Batch, Plan
from vlp.data.json.dataset import Sample
from vlp.data.json.text import encode_cls
from vlp.data.masking import TokenMasker


class JsonCollator:
    """Samples of a :class:`JsonDataset` -> batch of B.

    * ``image``: float32 (B, 3, res, res); of samples with several images all first ones, then all second ones …
    * ``text``: list of strings; ``text_ids``, ``text_masks``: int64 (B, n), ``[CLS]`` and the pieces, no ``[SEP]``,
      n of the longest; with ``masker`` also ``text_ids_mlm`` and ``text_labels_mlm``, -100 where nothing is chosen
    * ``answers`` with weights, those of all samples one after another: ``answer_ids``, ``answer_masks`` int64 (A, m), a
      "[SEP]" in them the special token; ``answer_weights`` float32 (A,); ``answer_counts``: how many each sample has
    * ``image_id``, ``image_index``, ``labels``: int64 (B,)
    * ``dataset``, ``index`` and all others: lists

    * ``target_bbox``: float32 (B, 4), (cx, cy, w, h) as shares of the image

    Last, each of ``plans`` adds its keys to a batch with texts: see :class:`vlp.data.collate.Collator`.
    """

    # Keys of samples whose values make a tensor.
    tensors: ClassVar[tuple[str, ...]] = ("image_id", "image_index", "labels", "target_bbox")

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        max_positions: int,
        masker: TokenMasker | None = None,
        plans: Iterable[Plan] = (),
    ) -> None:
        """
        Args:
            max_length: tokens that a text is cut to, ``[CLS]`` included.
            max_positions: those that an answer is cut to.
        """
        self.tokenizer, self.masker, self.plans = tokenizer, masker, list(plans)
        self.max_length, self.max_positions = max_length, max_positions

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        weighted = "answer_weights" in samples[0]
        taken = {"_key", "images"} | ({"answers", "answer_weights"} if weighted else set())
        batch: Batch = {"image": stack([sample["images"] for sample in samples])}
        for key in (key for key in samples[0] if key not in taken):
            values = [sample[key] for sample in samples]
            batch[key] = torch.tensor(values) if key in self.tensors else values
        if "text" in batch:
            batch |= self._texts(samples)
        if weighted:
            batch |= self._answers(samples)
        for plan in self.plans if "text" in batch else ():
            batch |= plan(batch)
        return batch

    def _texts(self, samples: Sequence[Sample]) -> Batch:
        ids, masks = encode_cls(self.tokenizer, [sample["text"] for sample in samples], self.max_length)
        texts: dict[str, Any] = {"text_ids": ids, "text_masks": masks}
        if self.masker is not None:
            rows = zip(ids.tolist(), samples, strict=True)
            masked = [self.masker(row, sample["_key"].rng("mlm text")) for row, sample in rows]
            texts["text_ids_mlm"] = torch.tensor([row for row, _ in masked])
            texts["text_labels_mlm"] = torch.tensor([labels for _, labels in masked])
        return texts

    def _answers(self, samples: Sequence[Sample]) -> Batch:
        answers = [answer for sample in samples for answer in sample["answers"]]
        ids, masks = encode_cls(self.tokenizer, answers, self.max_positions, spelled=True)
        weights = torch.tensor([weight for sample in samples for weight in sample["answer_weights"]])
        counts = [len(sample["answers"]) for sample in samples]
        return {"answer_ids": ids, "answer_masks": masks, "answer_weights": weights, "answer_counts": counts}


def stack(images: Sequence[Sequence[Tensor]]) -> Tensor:
    """The first image of every sample, then the second one of every sample …: (B, 3, H, W) or (2B, 3, H, W)."""
    in_order = [sample[i] for i in range(len(images[0])) for sample in images]
    # torch's own collation writes into memory that a loader worker shares with training: every pixel is copied once.
    return default_collate(in_order)
