"""What METER's and ViLT's steps share: batches, and the official step."""

from __future__ import annotations

import copy
from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from sacred.initialize import create_run
from torch import Tensor
from torch.utils._pytree import tree_map_only
from transformers import PretrainedConfig

from benchmarks.baseline import Batch
from benchmarks.epic_steps import ONE_TOKEN, EpicSteps
from epic_common.config import EpicConfig
from epic_common.corruption import Corruption
from epic_common.language_models.small import FAMILIES
from epic_vlp.lightning_epic import LightningEpic
from epic_vlp.parts import parts_of
from vlp.data.collate import Collator
from vlp.data.draws import SampleKey, itm_labels_of_batch
from vlp.data.masking import MlmMasker
from vlp.sacred_dialect.baseline import SacredBaseline


class Size(NamedTuple):
    """A recipe of the baseline's config, and the language model beside it."""

    named_configs: Sequence[str]
    updates: Mapping[str, Any]
    text: PretrainedConfig
    base_gib: float  # of EpicSteps
    gib_per_pair: float
    width: int | None = None  # of an image in pixels, where it is not as wide as high


class ArrowSteps(EpicSteps, ABC):
    """Steps of a config as sacred resolves it."""

    description: ClassVar[SacredBaseline]
    sizes: ClassVar[Mapping[str, Size]]
    switches: ClassVar[tuple[str, ...]] = ("pack_text",)
    variants: ClassVar[tuple[str, ...]] = ("vanilla_official", "vanilla", "epic_naive", "epic", "epic_cached")
    special_tokens: ClassVar[int] = 2  # [CLS] X [SEP]
    settings: ClassVar[EpicConfig] = EpicConfig(enabled=True)

    def __init__(self, size: str, device: str = "cpu", without: Sequence[str] = ()) -> None:
        self.recipe, self.device = self.sizes[size], device
        updates, named = {**self.recipe.updates, **dict.fromkeys(without, False)}, list(self.recipe.named_configs)
        run = create_run(self.description.experiment, "print_config", updates, named_configs=named)
        self.config: dict[str, Any] = copy.deepcopy(run.config)
        self.max_text_len, self.width = self.config["max_text_len"], self.config["hidden_size"]
        self.text, self.base_gib, self.gib_per_pair = self.recipe.text, self.recipe.base_gib, self.recipe.gib_per_pair
        self.teacher_plan = parts_of(self.description).teacher_plan
        new_tokenizer = FAMILIES[self.description.text_family].train_tokenizer
        self.tokenizer = new_tokenizer([ONE_TOKEN], 0, self.max_text_len)

    @property
    def text_family(self) -> str:
        return self.description.text_family

    def batch(self, lengths: Sequence[int]) -> Batch:
        """A batch of the baseline's own collation and masking, whose budget counts padding, with a loader's plans."""
        c = self.config
        keys = [SampleKey(c["seed"], 0, "benchmark", row) for row in range(len(lengths))]
        shape = (3, c["image_size"], self.recipe.width or c["image_size"])
        samples: list[dict[str, Any]] = []
        for key, length, label in zip(keys, lengths, itm_labels_of_batch(keys[0], len(keys)), strict=True):
            words = ONE_TOKEN * (length - self.special_tokens)
            sample = {"text": words, "image": [torch.randn(shape)], "itm_labels": label, "_key": key}
            samples.append(sample if label else {**sample, "false_image_0": [torch.randn(shape)]})
        masker = MlmMasker(self.tokenizer, c["mlm_prob"], c["whole_word_masking"])
        collate = Collator(self.tokenizer, masker, c["max_text_len"], [self.student.plan, self.plan_of_epic])
        return tree_map_only(Tensor, lambda tensor: tensor.to(self.device), collate(samples))

    @property
    def without_heads(self) -> dict[str, Any]:
        """The config of a teacher."""
        return {**self.config, "loss_names": dict.fromkeys(self.config["loss_names"], 0)}

    def matching_loss(self, batch: Batch, pair: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Of the official ITM pass, which gave ``pair``; labels (B,), 1 = matched."""
        return F.cross_entropy(self.student.itm_score(pair["cls_feats"]), labels)

    def full_pass(self, teacher: Any, batch: Batch) -> None:
        teacher.infer(batch)

    def official(self, batch: Batch) -> Tensor:
        """Two full passes: MLM with logits at every position, ITM with its images encoded anew.

        Source: docs/official/meter.md §5, docs/official/vilt.md §5.
        """
        m, batch = self.student, padded(batch)
        logits = m.mlm_score(m.infer(batch, mask_text=True)["text_feats"])
        mlm = F.cross_entropy(logits.flatten(0, 1), batch["text_labels_mlm"].flatten())
        images = batch["image"][0].index_copy(0, batch["itm_negatives"], batch["false_image_0"][0])
        return mlm + self.matching_loss(batch, m.infer({**batch, "image": [images]}), batch["itm_labels"])

    def corruption(self, epic: LightningEpic, batch: Batch) -> Corruption:
        return epic.corruption_of(batch["text_ids"], batch["text_masks"], padded(batch))

    def full_states(self, batch: Batch, ids: Tensor) -> Tensor:
        return self.student.infer({**padded(batch), "text_ids": ids})["text_feats"]

    def outputs(self, batch: Batch) -> dict[str, Any]:
        return self.student(batch)


def padded(batch: Batch) -> Batch:
    """The batch with its padding marked as text: whoever leaves out padding computes all of it, like official code."""
    return {**batch, "text_masks": torch.ones_like(batch["text_masks"])}
