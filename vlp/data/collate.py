"""One collation for all datasets (SPEC §3.5): pad images top-left, tokenise and mask texts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vlp.data.draws import SampleKey

Batch = dict[str, Any]
IGNORE = -100


class Masker(Protocol):
    """``vlp.data.masking.MlmMasker``: token ids -> (ids with masks, labels), equally long."""

    def __call__(self, ids: Sequence[int], rng: random.Random) -> tuple[list[int], list[int]]: ...


class Collator:
    """Samples -> batch, the official keys and shapes.

    * keys with "image": list over views of float tensors (B, 3, H, W); H and W are the maxima over *all* image keys of
      the batch, each image lies top-left in zeros;
    * keys K with "text": ``K`` list of strings, and int64 (B, L) tensors ``K_ids``, ``K_masks`` (1 = token, 0 = pad),
      ``K_labels`` (all -100), ``K_ids_mlm``, ``K_labels_mlm``;
    * all other keys: lists, None where a sample lacks the key.

    As in the official code false texts are padded with id 0 in ``K_ids`` and with the pad id in ``K_ids_mlm``; the
    attention mask is 0 there. Masks are drawn from each sample's own key.
    """

    def __init__(self, tokenizer: Any, masker: Masker, max_text_len: int) -> None:
        self.tokenizer, self.masker, self.max_text_len = tokenizer, masker, max_text_len

    def __call__(self, samples: Sequence[dict[str, Any]]) -> Batch:
        keys = list(dict.fromkeys(key for sample in samples for key in sample if key != "_key"))
        batch: Batch = {key: [sample.get(key) for sample in samples] for key in keys}
        images = [key for key in keys if "image" in key]
        texts = [key for key in keys if "text" in key]
        for key in images + texts:
            if None in batch[key]:
                raise ValueError(f"samples of one batch must all have {key!r}: are the datasets' draws the same?")
        if images:
            batch |= pad_images({key: batch[key] for key in images})
        for key in texts:
            batch |= self._encode(key, batch[key], [sample["_key"] for sample in samples])
        return batch

    def _encode(self, name: str, texts: list[str], keys: list[SampleKey]) -> Batch:
        """Tokenise and mask the texts of one key; the true text is padded by the tokeniser, false texts by zeros."""
        encoded = self.tokenizer(texts, truncation=True, max_length=self.max_text_len)["input_ids"]
        size = (len(texts), self.max_text_len)
        pad = self.tokenizer.pad_token_id
        true = not name.startswith("false")
        ids = torch.full(size, pad if true else 0)
        masks, labels = torch.zeros(size, dtype=torch.int64), torch.full(size, IGNORE)
        ids_mlm, labels_mlm = torch.full(size, pad), torch.full(size, IGNORE)
        for row, (tokens, key) in enumerate(zip(encoded, keys, strict=True)):
            n = len(tokens)
            ids[row, :n], masks[row, :n] = torch.tensor(tokens), 1
            # The budget of whole-word masking counts the pads of a true text (SPEC §3.6).
            padded = tokens + [pad] * (self.max_text_len - n) if true else tokens
            masked, targets = self.masker(padded, key.rng(f"mlm {name}"))
            ids_mlm[row, : len(masked)], labels_mlm[row, : len(targets)] = torch.tensor(masked), torch.tensor(targets)
        values = {"ids": ids, "masks": masks, "labels": labels, "ids_mlm": ids_mlm, "labels_mlm": labels_mlm}
        return {f"{name}_{suffix}": value for suffix, value in values.items()}


def pad_images(images: dict[str, list[list[Tensor]]]) -> dict[str, list[Tensor]]:
    """Stack each key's views into tensors (B, 3, H, W), zero-padded right and below to the largest H and W of all."""
    views = [view for samples in images.values() for sample in samples for view in sample]
    height, width = (max(view.shape[axis] for view in views) for axis in (1, 2))

    def stack(samples: list[list[Tensor]], number: int) -> Tensor:
        stacked = torch.zeros(len(samples), 3, height, width)
        for target, sample in zip(stacked, samples, strict=True):
            view = sample[number]
            target[:, : view.shape[1], : view.shape[2]] = view
        return stacked

    return {key: [stack(samples, i) for i in range(len(samples[0]))] for key, samples in images.items()}
