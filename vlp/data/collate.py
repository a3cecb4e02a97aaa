"""One collation for all datasets (docs/official/meter.md §3.5): pad images top-left, tokenise and mask texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate
from transformers import PreTrainedTokenizerBase

from vlp.data.draws import SampleKey
from vlp.data.masking import IGNORED, MlmMasker
from vlp.data.tokenizers import encode

Batch = dict[str, Any]
Plan = Callable[[Batch], Batch]


class Collator:
    """Samples -> batch, the official keys and shapes.

    * keys with "image": list over views of float tensors (B, 3, H, W); H and W are the maxima over *all* image keys of
      the batch, each image lies top-left in zeros;
    * keys K with "text": ``K`` list of strings, and int64 (B, L) tensors ``K_ids``, ``K_masks`` (1 = token, 0 = pad),
      ``K_labels`` (all -100), ``K_ids_mlm``, ``K_labels_mlm``;
    * ``dataset``: list of the samples' dataset keys, ours;
    * ``sizes``: image key -> int64 (B, 2), height and width in pixels of each first view inside the padding, ours: the
      official marker of padding, channels that sum to 0, may be a pixel;
    * all other keys: lists, None where a sample lacks the key.

    Of samples with ``itm_labels`` (a run with image-text matching: ``MixedDataset``), ours:

    * ``itm_labels``: int64 (B,), 1 = keeps its image, 0 = gets its false image;
    * ``itm_negatives``: int64 (N,), the rows with label 0, ascending;
    * ``false_image_0``: views (N, 3, H, W) and ``sizes`` (N, 2) of these rows, in their order.

    Last, each of ``plans`` is called with the batch and returns keys to add to it: what the model needs to know of the
    batch on the CPU. It runs where the batch is made, in a loader's worker, and must be picklable where workers are not
    forks (macOS). Tensors that it returns may stand in dictionaries, lists, tuples and NamedTuples, however nested:
    there they are pinned and moved to the model's device, and everything else stays as it is.

    As in the official code false texts are padded with id 0 in ``K_ids`` and with the pad id in ``K_ids_mlm``; the
    attention mask is 0 there. Masks are drawn from each sample's own key.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, masker: MlmMasker, max_text_len: int, plans: Iterable[Plan] = ()
    ) -> None:
        """
        Raises:
            ValueError: texts of max_text_len tokens would have no word.
        """
        if max_text_len < 3:
            raise ValueError(f"max_text_len={max_text_len}: two special tokens and one word need at least 3")
        self.tokenizer, self.masker, self.max_text_len = tokenizer, masker, max_text_len
        self.plans = list(plans)

    def __call__(self, samples: Sequence[dict[str, Any]]) -> Batch:
        keys = list(dict.fromkeys(key for sample in samples for key in sample if key != "_key"))
        batch: Batch = {key: [sample.get(key) for sample in samples] for key in keys}
        batch["dataset"] = [sample["_key"].dataset for sample in samples]
        if "itm_labels" in batch:
            batch |= _matching(batch)
        images = [key for key in keys if "image" in key]
        texts = [key for key in keys if "text" in key]
        for key in images + texts:
            if None in batch[key]:
                raise ValueError(f"samples of one batch must all have {key!r}: are the datasets' draws the same?")
        if images:
            views = {key: batch[key] for key in images}
            batch |= {**pad_images(views), "sizes": view_sizes(views)}
        for key in texts:
            batch |= self._encode(key, batch[key], [sample["_key"] for sample in samples])
        for plan in self.plans:
            batch |= plan(batch)
        return batch

    def _encode(self, name: str, texts: list[str], keys: list[SampleKey]) -> Batch:
        """Tokenise and mask the texts of one key; ``keys`` are those of the samples."""
        encoded = encode(self.tokenizer, texts, self.max_text_len)
        ids, masks = torch.tensor(encoded.ids), torch.tensor(encoded.masks)
        ids_mlm, labels_mlm = ids.clone(), torch.full_like(ids, IGNORED)
        false = name.startswith("false")
        for row, key in enumerate(keys):
            # A false text reaches the masking without pads, so they do not count in its budget:
            # docs/official/meter.md §3.4, §3.6.
            n = int(masks[row].sum()) if false else self.max_text_len
            masked, targets = self.masker(encoded.ids[row][:n], key.rng(f"mlm {name}"))
            ids_mlm[row, :n], labels_mlm[row, :n] = torch.tensor(masked), torch.tensor(targets)
        if false:
            ids = ids * masks
        labels = torch.full_like(ids, IGNORED)
        values = {"ids": ids, "masks": masks, "labels": labels, "ids_mlm": ids_mlm, "labels_mlm": labels_mlm}
        return {f"{name}_{suffix}": value for suffix, value in values.items()}


def _matching(batch: Batch) -> Batch:
    """ITM's labels and negatives, and the first false images without the places of those that were not read."""
    labels = torch.tensor(batch["itm_labels"])
    negatives = (labels == 0).nonzero().squeeze(1)
    false = [batch["false_image_0"][row] for row in negatives.tolist()]
    return {"itm_labels": labels, "itm_negatives": negatives, "false_image_0": false}


def view_sizes(images: dict[str, list[list[Tensor]]]) -> dict[str, Tensor]:
    """Height and width of the first view of each key's samples: int64 (B, 2)."""
    return {key: torch.tensor([sample[0].shape[1:] for sample in samples]) for key, samples in images.items()}


def pad_images(images: dict[str, list[list[Tensor]]]) -> dict[str, list[Tensor]]:
    """Stack each key's views into tensors (B, 3, H, W), zero-padded right and below to the largest H and W of all."""
    views = [view for samples in images.values() for sample in samples for view in sample]
    height, width = (max(view.shape[axis] for view in views) for axis in (1, 2))
    return {
        key: [_stack([sample[i] for sample in samples], height, width) for i in range(len(samples[0]))]
        for key, samples in images.items()
    }


def _stack(views: list[Tensor], height: int, width: int) -> Tensor:
    # torch's own collation writes into memory that a loader worker shares with training: every pixel is copied once.
    if all(view.shape[1:] == (height, width) for view in views):
        return default_collate(views)
    batch = default_collate([views[0].new_zeros(()).expand(len(views[0]), height, width)] * len(views))
    for row, view in zip(batch, views, strict=True):
        row[:, : view.shape[1], : view.shape[2]] = view
    return batch
